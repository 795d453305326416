"""`streamdrnn listen --web`: a page that listens to the browser's microphone."""
