"""Pictures of a dataset's images for its pages: the mosaic, and images that fail an expectation.

A volume is shown by the slice with the most foreground.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from segops.contracts.validation import Expectation
from segops.contracts.volumes import size_words

if TYPE_CHECKING:
    import pandas as pd

    from segops.data.shards import StoredExample

THUMBNAIL_PX = 128
_THUMBNAILS = 24  # per expectation

Array = npt.NDArray[Any]
Read = Callable[[str, str], "StoredExample"]
Beside = tuple[str, str, int]  # an image, the image whose mask lies over it, and the mask's turn


class DatasetPictures:
    """Makes pictures of the mosaic and of failing images, each one once."""

    def __init__(self, rows: pd.DataFrame, read: Read, class_colours: Sequence[str]) -> None:
        self._rows, self._read, self._class_colours = rows, read, class_colours
        self._drawn: dict[Beside, dict[str, str]] = {}

    def mosaic(self, manifest: pd.DataFrame) -> list[dict[str, str | None]]:
        """Return pictures of images that show what the data is like, with their masks' outlines to lay over them."""
        from segops.pictures.mosaic import choose, tile

        tiles = []
        for image_id, reason in choose(manifest):
            row = self._rows.loc[image_id]
            example = self._read(str(row["shard"]), image_id).as_picture()
            photo, outline = tile(example.image_HWC, example.mask_HW, self._class_colours, example.objects_HW)
            ratio = f"{row['width'] / row['height']:.3f}"
            shown = {"photo": photo, "outline": outline, "ratio": ratio}
            tiles.append({"id": image_id, "reason": reason, "caption": _caption(row), **shown})
        return tiles

    def of(self, expectation: Expectation, beside: Mapping[str, Beside]) -> list[list[dict[str, str]]]:
        """Return thumbnails of an expectation's failing images: each with what is beside it, _THUMBNAILS at most."""
        most = _THUMBNAILS // 2 if beside else _THUMBNAILS
        return [
            [self._picture(what) for what in ((image_id, image_id, 0), beside.get(image_id)) if what]
            for image_id in expectation.failing_ids[:most]
        ]

    def _picture(self, what: Beside) -> dict[str, str]:
        """Return the thumbnail of an image under a mask, with its caption."""
        from segops.data.mask_fit import TURNS
        from segops.pictures.images import overlay, thumbnail_uri

        if what not in self._drawn:
            image_id, mask_id, turn = what
            example = self._read(str(self._rows.loc[image_id, "shard"]), image_id).as_picture()
            image, mask, objects = example.image_HWC, example.mask_HW, example.objects_HW
            caption = _caption(self._rows.loc[image_id])
            if mask_id != image_id or turn:
                caption = f"with its own mask {TURNS[turn - 1]}" if turn else f"with the mask of {mask_id}"
                mask, objects = self._other_mask(mask_id, turn, image.shape[:2]), None
            if image.shape[:2] == mask.shape:
                drawn = overlay(image, mask, self._class_colours, opacity=0, objects_HW=objects)
            else:
                drawn, caption = image, f"{caption}, mask {mask.shape[0]}x{mask.shape[1]} not drawn"
            uri = thumbnail_uri(drawn, THUMBNAIL_PX, photo=True)
            self._drawn[what] = {"id": image_id, "caption": caption, "uri": uri}
        return self._drawn[what]

    def _other_mask(self, mask_id: str, turn: int, size: tuple[int, ...]) -> Array:
        """Return an image's mask, turned, at the size of another image."""
        from segops.data.mask_fit import turned
        from segops.pictures.images import nearest

        mask_HW = self._read(str(self._rows.loc[mask_id, "shard"]), mask_id).as_picture().mask_HW
        return nearest(turned(mask_HW, turn), (size[0], size[1]))


def _caption(row: Any) -> str:
    """Say an image's size, foreground, objects and ignored pixels."""
    from segops.progress import counted

    objects = f", {counted(int(row['instances']), 'object')}" if row["instances"] >= 0 else ""
    ignored = f", ignored {row['ignored_fraction']:.1%}" if row["ignored_fraction"] else ""
    return f"{size_words(row)} px, foreground {row['foreground_fraction']:.1%}{objects}{ignored}"
