"""Serving: one process that answers many live streams over WebSockets."""
