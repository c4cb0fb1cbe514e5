"""Defines params.yaml as typed models: one module per section, and `project` for the whole file."""
