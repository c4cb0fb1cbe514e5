"""Proposes that a folder is a volume and its files are slices, where names and pixels of a source show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from segops.data.decoders.decode import decode
from segops.data.decoders.kinds import VOLUME_SUFFIXES, image_suffix
from segops.data.layouts.folders import pairs
from segops.data.layouts.pairing import Members, Pair
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.planning.families import Proposed, folder_proposals
from segops.planning.words import words

_FEWEST_SLICES = 8  # of pictures; two of DICOM, which says that they are of a series
_LOOKED_AT = 4  # places of a volume
_ALIKE = 0.6  # difference of neighbours, as a share of that of slices half a volume apart
_SLICE_WORDS = frozenset({"slice", "slices", "sl", "z"})


def slice_folder_proposals(source: Members, files: Sequence[str]) -> Iterator[Proposed]:
    """Yield the first folders or globs under which each image and each mask is a folder of evenly numbered slices.

    Pictures are slices where neighbours in a folder are clearly more alike than others and none has colours. That is
    sure where names say slice: frames of a film are alike too.
    """
    if not any("/" in name for name in files):
        return
    for params, _, _ in folder_proposals(files):
        given = {**params, "layout": "pairs", "slices": "folder", "dimensions": 3}
        try:
            found = pairs(source, IngestParams.model_validate({"source": "", **given}))
        except (UserError, ValidationError):
            continue
        volumes = [_slices(pair) for pair in found]
        if len(volumes) > 1 and (_of_series(volumes) or _are_alike(source, volumes)):
            named = any(_SLICE_WORDS & set(words(name.rpartition("/")[2])) for name in volumes[0])
            many = int(np.median([len(names) for names in volumes]))
            why = f"folders below {params['images']} and {params['masks']} hold numbered slices, about {many} each"
            yield Proposed(given, why, named or _of_series(volumes))
            return


def _slices(pair: Pair) -> tuple[str, ...]:
    """Return the files of a volume's first channel."""
    return pair.channels[0]


def _of_series(volumes: Sequence[Sequence[str]]) -> bool:
    """Return whether slices are DICOM."""
    return VOLUME_SUFFIXES.get(image_suffix(volumes[0][0])) == "DICOM"


def _are_alike(source: Members, volumes: Sequence[Sequence[str]]) -> bool:
    """Return whether neighbours in the longest folder are more alike than slices half of it apart, and all are grey."""
    names = max(volumes, key=len)
    if len(names) < _FEWEST_SLICES:
        return False
    half = len(names) // 2
    try:
        shown = {at: _grey(source, names[at]) for first in _places(half) for at in (first, first + 1, first + half)}
        near = [np.abs(shown[first] - shown[first + 1]).mean() for first in _places(half)]
        far = [np.abs(shown[first] - shown[first + half]).mean() for first in _places(half)]
    except (UserError, ValueError):  # not read, of colours, or of several sizes
        return False
    return bool(sum(near) < _ALIKE * sum(far))


def _places(half: int) -> list[int]:
    """Return the first slices of the pairs that are compared."""
    return sorted({round(at) for at in np.linspace(0, half - 1, _LOOKED_AT)})


def _grey(source: Members, name: str) -> npt.NDArray[np.float64]:
    """Return a picture's values HW. Raises ValueError where it has colours."""
    array_HWC = decode(source.read(name), name).array_HWC.astype(np.float64)
    if np.ptp(array_HWC, axis=-1).any():
        raise ValueError(f"{name} has colours")
    return np.asarray(array_HWC[..., 0])
