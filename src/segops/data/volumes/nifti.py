"""Reads NIfTI-1 and NIfTI-2 in a single file, by nibabel.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.data.decoders.bounds import check_filled, check_size
from segops.data.volumes.grid import Volume, oriented
from segops.data.volumes.samples import scaled
from segops.errors import UserError
from segops.params.file_rules import FileRules

_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def decode_nifti(content: bytes, name: str, rules: FileRules) -> tuple[Volume, tuple[str, ...]]:
    """Decode a NIfTI file: its samples after slope and intercept, and what is to be noted of it.

    Raises: UserError for several volumes where params don't call them channels, colours, or two files in one.
    """
    if content[4:8] == b"ni2\0" or content[344:348] == b"ni1\0":
        raise UserError(f"{name}: a NIfTI header whose voxels are in another file; save both as one .nii.gz")
    _check_spacing(content, name)
    image = open_nifti(content)
    stored = image.header.get_data_dtype()
    shape = _shape(image.shape, name, rules)
    if stored.kind not in "iuf":
        raise UserError(f"{name}: NIfTI samples of type {stored}; save it with integers or floats, one per voxel")
    check_size(shape[0] * shape[1], shape[2] * shape[3], name, bytes_per_pixel=stored.itemsize)
    check_filled(int(np.prod(shape)) * stored.itemsize, len(content), name)
    values = np.asarray(image.dataobj.get_unscaled()).reshape(shape, order="F")
    array = scaled(values, float(image.dataobj.slope), float(image.dataobj.inter))
    return oriented(array, RAS_TO_LPS @ _affine_mm(image.header, image.affine), name), _notes(image.header)


def open_nifti(content: bytes) -> Any:
    """Return nibabel's image of a NIfTI-1 or NIfTI-2 file."""
    return _kind(content).from_bytes(content)


def _kind(content: bytes) -> Any:
    """Return nibabel's class of a file."""
    import nibabel as nib

    return nib.Nifti2Image if content[4:8] in (b"n+2\0", b"ni2\0") else nib.Nifti1Image


def _check_spacing(content: bytes, name: str) -> None:
    """Raise UserError where the spacing counts and isn't above 0: nibabel would take 1 mm, or drop its sign."""
    header_class = _kind(content).header_class
    header = header_class(content[: header_class.template_dtype.itemsize], check=False)
    spacings = header["pixdim"][1:4]
    if header["sform_code"] == 0 and (spacings <= 0).any():
        wrong = spacings[spacings <= 0][0]
        raise UserError(f"{name}: a spacing of {wrong:g} along an axis (pixdim); correct the header")


def _shape(shape: tuple[int, ...], name: str, rules: FileRules) -> tuple[int, int, int, int]:
    """Return three axes and the channels. Raises UserError where a fourth axis isn't said to hold them."""
    sizes = (*shape, *(1,) * (3 - len(shape)))
    first, second, third, *others = sizes
    several = [size for size in others if size != 1]
    if not several:
        return first, second, third, 1
    if len(several) > 1:
        raise UserError(f"{name}: {len(sizes)} axes ({'x'.join(map(str, sizes))}); save each volume as a file")
    if rules.fourth_axis == "error":
        raise UserError(
            f"{name}: 4D, {several[0]} volumes of {first}x{second}x{third}; a time series isn't read: save the volume "
            "to segment as a file, or, where they are modalities, set ingest.fourth_axis: channels"
        )
    return first, second, third, several[0]


def _affine_mm(header: Any, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the affine from indices to mm: headers may count in metres or micrometres."""
    affine_mm = np.array(affine, np.float64)
    affine_mm[:3] *= _MM[header.get_xyzt_units()[0]]
    return affine_mm


def _notes(header: Any) -> tuple[str, ...]:
    """Say what about a header a person should know."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        return ("NIfTI without qform and sform: axes taken as right, anterior, superior",)
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=1e-2):
        return ("NIfTI whose sform and qform differ: the sform taken",)
    return ()
