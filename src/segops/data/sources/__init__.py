"""Where raw files come from: folders, archives, S3, HTTP, DVC, generated ones."""
