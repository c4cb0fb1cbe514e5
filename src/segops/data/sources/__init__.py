"""Reads raw files from where they come from: folders, archives, S3, HTTP, DVC, generated images."""
