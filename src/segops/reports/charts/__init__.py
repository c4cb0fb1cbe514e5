"""Drawings for pages."""
