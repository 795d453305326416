"""`streamdrnn listen` on a terminal."""
