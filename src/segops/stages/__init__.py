"""Holds the stages of the graph: one function each, typed params and paths in, files out."""
