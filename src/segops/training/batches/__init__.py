"""Prepares the batches of a training's steps."""
