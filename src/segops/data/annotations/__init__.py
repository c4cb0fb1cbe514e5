"""Reads annotations that are no images: polygons and run lengths of COCO, labelme, QuPath and tables."""
