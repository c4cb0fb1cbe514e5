"""Checks of a dataset: the only room that imports great_expectations."""
