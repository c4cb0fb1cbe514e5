"""Metrics, their statistics and the pages that show them."""
