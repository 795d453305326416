"""Tests of streamdrnn.apps.bench."""
