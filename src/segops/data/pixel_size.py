"""Finds how large a picture's pixels are: a table's or a param's word, else what its files say.

A BIDS sidecar counts before the image file's own metadata, and these only as `decoders.resolution` takes them. Axes: H
height, W width.
"""

from __future__ import annotations

from segops.contracts.pixel_size import PixelSize
from segops.data.decoders.kinds import image_stem, kind_of
from segops.data.decoders.pictures import png_chunks
from segops.data.decoders.resolution import Resolution, in_um, png_resolution, tiff_resolution
from segops.data.layouts.pairing import Members, Pair
from segops.files import parse_json
from segops.params.ingest import IngestParams


class PixelSizes:
    """Finds pixel sizes of a source's pictures."""

    def __init__(self, source: Members, params: IngestParams) -> None:
        self._source, self._params, self._names = source, params, frozenset(source.names)

    def of(self, pair: Pair, content: bytes, size_HW: tuple[int, ...]) -> PixelSize | None:
        """Return the pixel size of a picture as it was read; None where nothing says it.

        Args:
            content: of the picture's file, its first where it has one for each channel.
            size_HW: of the picture, which may be a smaller copy or have been turned upright.
        """
        said = self._params.pixel_size_um if pair.pixel_size_um is None else pair.pixel_size_um
        if said == "files":
            return _sidecar(self._source, self._names, pair.image) or self._in_file(pair.image, content, size_HW)
        return None if isinstance(said, str) else (said, said)

    def _in_file(self, name: str, content: bytes, size_HW: tuple[int, ...]) -> PixelSize | None:
        """Return what the image file says, for the picture that was read from it."""
        um, stored_HW, transposed = _resolution(name, content)
        if not um:
            return None
        sizes, stored = (um["y"], um["x"]), stored_HW or size_HW
        if transposed and self._params.orientation == "turn":
            sizes, stored = sizes[::-1], stored[::-1]
        height_um, width_um = (
            size * _scale(full, kept) for size, full, kept in zip(sizes, stored, size_HW, strict=True)
        )
        return height_um, width_um


def _resolution(name: str, content: bytes) -> Resolution:
    """Read the metadata of a file of a kind that carries a pixel size."""
    match kind_of(content, name):
        case "TIFF":
            return tiff_resolution(content)
        case "PNG":
            return png_resolution(png_chunks(content))
    return Resolution({})


def _scale(full_px: int, kept_px: int) -> float:
    """Return how many stored pixels one of the picture stands for; the size of a smaller copy was rounded."""
    scale = round(full_px / kept_px)
    return scale if abs(full_px - scale * kept_px) < scale else full_px / kept_px


def _sidecar(source: Members, names: frozenset[str], image: str) -> PixelSize | None:
    """Return the pixel size of a BIDS sidecar beside the image, whose `PixelSize` begins with x and y."""
    sidecar = f"{image_stem(image).removesuffix('.ome')}.json"
    if sidecar not in names:
        return None
    try:
        about = parse_json(source.read(sidecar))
        sizes, factor = about["PixelSize"], in_um(about["PixelSizeUnits"])
        x, y = (float(size) for size in (sizes[:2] if isinstance(sizes, list) else (sizes, sizes)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (y * factor, x * factor) if factor and min(x, y) > 0 else None
