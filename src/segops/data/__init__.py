"""Reads images from disk: sources, layouts, shards, groups and memory-mapped arrays. No module here imports torch."""
