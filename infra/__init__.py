"""What SegOps runs on: images, compose, Kubernetes, a tracking server."""
