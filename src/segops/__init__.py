"""SegOps: from a raw biomedical image archive to a promoted segmentation model."""

__version__ = "0.1.0"
