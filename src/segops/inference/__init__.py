"""Turns an image of any size into a probability map of that size."""
