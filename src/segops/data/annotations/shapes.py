"""Reads annotations of a single image: labelme's JSON, and GeoJSON as QuPath exports it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
from pydantic import RootModel

from segops.data.annotations.drawing import Annotation, draw_polygon
from segops.data.annotations.json_files import Entry, parsed
from segops.errors import UserError

SUFFIXES = (".json", ".geojson")
UNNAMED = ""
"""The label of an object that has no class."""

Point = list[float]


class _Shape(Entry):
    label: str
    points: list[Point]
    shape_type: str | None = None


class _Labelme(Entry):
    imageHeight: int | None = None
    imageWidth: int | None = None
    shapes: list[_Shape]


class _Geometry(Entry):
    type: str
    coordinates: list[list[Point]] | list[list[list[Point]]] | list[Point] | Point


class _Classification(Entry):
    name: str | None = None


class _Properties(Entry):
    classification: _Classification | str | None = None
    label: str | None = None


class _Feature(Entry):
    geometry: _Geometry
    properties: _Properties | None = None


class _Features(Entry):
    features: list[_Feature]


class _Document(RootModel[_Labelme | _Features | list[_Feature] | _Feature]):
    """Any of the forms that a file may have."""


def drawn_shapes(content: bytes, name: str, size: tuple[int, int]) -> Iterator[Annotation]:
    """Yield the objects of an annotation file.

    Args:
        size: the image's height and width, pixels.

    Raises: UserError naming the file and the object that can't be drawn.
    """
    form = "labelme's JSON, nor GeoJSON"
    document = parsed(content, _Document, name, form).root
    if isinstance(document, _Labelme):
        yield from _labelme(document, name, size)
        return
    features = document.features if isinstance(document, _Features) else document
    for number, feature in enumerate(features if isinstance(features, list) else [features], start=1):
        where = f"{name}: feature {number}"
        yield Annotation(_class_of(feature.properties), _geometry(feature.geometry, size, where))


def _labelme(document: _Labelme, name: str, size: tuple[int, int]) -> Iterator[Annotation]:
    """Yield labelme's shapes. Raises UserError where the file is of an image of another size."""
    said = document.imageHeight, document.imageWidth
    if None not in said and said != size:
        raise UserError(f"{name}: of an image of {said[0]}x{said[1]} pixels, its image has {size[0]}x{size[1]}")
    for number, shape in enumerate(document.shapes, start=1):
        yield Annotation(shape.label, _shape(shape, size, f"{name}: shape {number}"))


def _shape(shape: _Shape, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw a shape of labelme."""
    kind, corners = shape.shape_type or "polygon", _corners(shape.points, where)
    if kind == "rectangle" and len(corners) == 2:
        (left, top), (right, bottom) = corners
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif kind == "circle" and len(corners) == 2:
        angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        radius = np.hypot(*(corners[1] - corners[0]))
        corners = corners[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    elif kind != "polygon":
        raise UserError(f"{where}: a {kind} has no area that is known; draw it as a polygon, or leave it out")
    return draw_polygon(corners.ravel(), (), size, where)


def _class_of(properties: _Properties | None) -> str:
    """Return the class of a GeoJSON feature: QuPath's classification, or its label."""
    if properties is None:
        return UNNAMED
    classification = properties.classification
    name = classification.name if isinstance(classification, _Classification) else classification
    return name or properties.label or UNNAMED


def _geometry(geometry: _Geometry, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw a polygon of GeoJSON, or several."""
    if geometry.type not in ("Polygon", "MultiPolygon"):
        raise UserError(f"{where}: a {geometry.type} has no area; draw it as a polygon, or leave it out")
    polygons = [geometry.coordinates] if geometry.type == "Polygon" else geometry.coordinates
    drawn = []
    for polygon in polygons:
        rings = [_corners(ring, where).ravel() for ring in polygon] if isinstance(polygon, list) else []
        if not rings:
            raise UserError(f"{where}: a polygon without a ring; correct it")
        drawn.append(draw_polygon(rings[0], rings[1:], size, where))
    return reduce(np.logical_or, drawn, np.zeros(size, bool))


def _corners(points: object, where: str) -> np.ndarray:
    """Return points as an array of x and y. Raises UserError where they are none."""
    try:
        corners = np.asarray(points, dtype=np.float64)
        x_and_y: np.ndarray = corners[:, :2]
    except (TypeError, ValueError, IndexError):
        raise UserError(f"{where}: points that aren't pairs of numbers; correct it") from None
    return x_and_y
