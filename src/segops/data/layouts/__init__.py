"""How a source's files are images and masks."""
