"""Suite ``listen``: what live speaker identification takes."""
