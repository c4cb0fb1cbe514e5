"""Defines network architectures, one file each. They know no files."""
