"""Decodes the bytes of an image file to an array, without losing a bit; one module per family of formats."""
