"""Tests of streamdrnn.apps.speaker_id."""
