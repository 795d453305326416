"""What people run: the command line, speaker identification, training."""
