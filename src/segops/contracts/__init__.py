"""The files that pass between stages."""
