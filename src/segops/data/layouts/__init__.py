"""Pairs the files of a source as images and masks."""
