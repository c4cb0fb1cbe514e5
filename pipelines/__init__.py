"""Runs the graph as a Kubeflow pipeline: `python -m pipelines compile | run-local | submit | schedule`."""
