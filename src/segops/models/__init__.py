"""Network architectures, one file each. They know no files."""
