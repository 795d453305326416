"""Suite ``serve``: how many live streams a server answers in time, beside other servers of the same protocol."""
