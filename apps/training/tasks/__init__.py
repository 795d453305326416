"""What can be trained: the paper's tasks (Chang et al., NIPS 2017, section 4), and others; see :mod:`registry`."""
