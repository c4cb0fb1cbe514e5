"""Arrays to look at; no HTML."""
