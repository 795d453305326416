"""Offline training, evaluation and their data."""
