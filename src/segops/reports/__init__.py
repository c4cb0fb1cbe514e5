"""Pages and cards that people read."""
