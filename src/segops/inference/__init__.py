"""From an image of any size to a probability map of that size."""
