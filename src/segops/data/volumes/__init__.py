"""Volumes: how their files are read, and the grid that their voxels lie on."""
