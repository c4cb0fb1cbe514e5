"""Reads COCO's annotations: a JSON of images, categories, polygons and run lengths (cocodataset.org, "Data format")."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np

from segops.data.annotations.drawing import Annotation, draw_polygon, draw_runs
from segops.data.annotations.json_files import Entry, parsed
from segops.errors import UserError

Id = int | str


class _Image(Entry):
    id: Id
    file_name: str
    height: int
    width: int


class _Category(Entry):
    id: Id
    name: str


class _Runs(Entry):
    size: tuple[int, int]
    counts: list[int] | str


class _Annotation(Entry):
    id: Id | None = None
    image_id: Id
    category_id: Id
    segmentation: list[list[float]] | _Runs
    iscrowd: bool = False


class _Document(Entry):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


class CocoFile:
    """An annotation file.

    Attributes:
        sizes: height and width of each image, by its `file_name`.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        document = parsed(content, _Document, name, "COCO's format")
        self._labels = {category.id: category.name for category in document.categories}
        self.sizes = {image.file_name: (image.height, image.width) for image in document.images}
        self._of_image: dict[str, list[_Annotation]] = {file: [] for file in self.sizes}
        files = {image.id: image.file_name for image in document.images}
        if not len(files) == len(self.sizes) == len(document.images):
            raise UserError(f"{name}: an image or its id is listed twice; keep one")
        for annotation in document.annotations:
            if annotation.image_id not in files:
                raise UserError(
                    f"{name}: annotation {annotation.id} is of image {annotation.image_id}, which isn't listed; "
                    "correct it"
                )
            self._of_image[files[annotation.image_id]].append(annotation)

    def drawn(self, file: str, size: tuple[int, int]) -> Iterator[Annotation]:
        """Yield the objects of an image of that height and width.

        Raises: UserError where the file says another size, or an annotation can't be drawn.
        """
        if self.sizes[file] != size:
            (height, width), (said_height, said_width) = size, self.sizes[file]
            raise UserError(
                f"{self.name}: {file} is {said_height}x{said_width} pixels there, the file {height}x{width}; correct it"
            )
        for annotation in self._of_image[file]:
            where = f"{self.name}: annotation {annotation.id} of {file}"
            if annotation.category_id not in self._labels:
                raise UserError(f"{where}: category {annotation.category_id} isn't listed; correct it")
            drawn_HW = _drawn(annotation.segmentation, size, where)
            yield Annotation(self._labels[annotation.category_id], drawn_HW, annotation.iscrowd)


def _drawn(segmentation: list[list[float]] | _Runs, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw a segmentation: polygons, or run lengths as numbers or as COCO's text."""
    if isinstance(segmentation, list):
        polygons = (draw_polygon(ring, (), size, where) for ring in segmentation)
        return reduce(np.logical_or, polygons, np.zeros(size, bool))
    if segmentation.size != size:
        raise UserError(f"{where}: run lengths of another size than the image's {size[0]}x{size[1]}; correct it")
    counts = segmentation.counts
    runs = np.array(counts if isinstance(counts, list) else _unpacked(counts, where), dtype=object)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise UserError(f"{where}: its run lengths aren't those of {size[0]}x{size[1]} pixels; correct it")
    ends = np.cumsum(runs.astype(np.int64))
    begins, lengths = (ends - runs.astype(np.int64))[1::2], runs.astype(np.int64)[1::2]
    return draw_runs(begins[lengths > 0], lengths[lengths > 0], size, where)


def _unpacked(text: str, where: str) -> list[int]:
    """Unpack COCO's text of run lengths: 5 bits a character, from the third on as differences (`maskApi.c`)."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            if position == len(text) or not 48 <= ord(text[position]) < 112 or shift > 60:
                raise UserError(f"{where}: damaged run lengths; export the annotations again")
            bits = ord(text[position]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            position, shift = position + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
