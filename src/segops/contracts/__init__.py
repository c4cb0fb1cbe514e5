"""Defines the files that pass between stages."""
