"""Images on disk: sources, layouts, shards, groups, memory-mapped arrays. No torch here."""
