"""Writes regions of images for the programs in which people mend labels: QuPath, napari and CVAT.

QuPath and other readers of GeoJSON take x, y with 0 at a pixel's upper left corner, so do CVAT's points; napari's
shapes are row, column with 0 at a pixel's centre, as outlines are here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

Point = tuple[float, float]  # row, column; 0 at the first pixel's centre


class Shape(NamedTuple):
    """Holds a named outline: row and column by vertex, not closed."""

    name: str
    outline: Sequence[Point]


class Annotated(NamedTuple):
    """Holds an image's file name, its size, and its shapes."""

    file: str
    height: int
    width: int
    shapes: Sequence[Shape]


def geojson(shapes: Sequence[Shape]) -> str:
    """Write an image's shapes as a FeatureCollection of polygons, as QuPath imports it."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in _closed(_xy(shape))]]},
            "properties": {"objectType": "annotation", "classification": {"name": shape.name}},
        }
        for shape in shapes
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"


def napari_shapes(shapes: Sequence[Shape]) -> str:
    """Write an image's shapes as the CSV of a napari Shapes layer: a row per vertex."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["index", "shape-type", "vertex-index", "axis-0", "axis-1"])
    for number, shape in enumerate(shapes):
        rows.writerows([number, "polygon", vertex, *point] for vertex, point in enumerate(shape.outline))
    return buffer.getvalue()


def cvat_xml(images: Mapping[str, Annotated]) -> str:
    """Write the shapes of all images as "CVAT for images 1.1"; a task with files of the same names imports it."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, image in enumerate(images.values()):
        size = {"width": str(image.width), "height": str(image.height)}
        element = ElementTree.SubElement(root, "image", {"id": str(number), "name": image.file, **size})
        for shape in image.shapes:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in _xy(shape))
            ElementTree.SubElement(element, "polygon", {"label": shape.name, "occluded": "0", "points": points})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _closed(points: list[Point]) -> list[Point]:
    """Return a polygon whose last vertex is its first."""
    return [*points, points[0]]


def _xy(shape: Shape) -> list[Point]:
    """Return a shape's vertices as x, y with 0 at the first pixel's upper left corner."""
    return [(column + 0.5, row + 0.5) for row, column in shape.outline]
