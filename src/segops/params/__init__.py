"""params.yaml as typed models: a module a section, and `project` for the whole file."""
