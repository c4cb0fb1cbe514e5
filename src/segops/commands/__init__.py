"""Holds what a person runs beside the graph."""
