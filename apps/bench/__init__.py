"""Benchmarks: what the network costs, beside other ways to compute the same numbers."""
