"""What can be trained: one file per task of the paper (Chang et al., NIPS 2017, section 4)."""
