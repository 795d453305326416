"""`streamdrnn score`: what a model says of every recording in a folder, on as many processes as there are."""
