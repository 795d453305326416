"""The commands of speaker identification, one file each."""
