"""Speaker identification: who speaks when, by the voices that are enrolled."""
