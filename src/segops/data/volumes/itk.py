"""Reads MetaImage (.mha) and NRRD (.nrrd) in a single file, by SimpleITK.

ITK reads both with their spacing and direction; the alternatives, pynrrd and medpy, read one each or are not kept.

Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segops.data.decoders.bounds import check_size
from segops.data.volumes.extras import extra
from segops.data.volumes.grid import Volume, oriented
from segops.errors import UserError
from segops.files import naming

_SUFFIX = {"MetaImage": ".mha", "NRRD": ".nrrd"}


def decode_itk(content: bytes, name: str, kind: str) -> Volume:
    """Decode a MetaImage or a NRRD file. Raises UserError where it has no three axes, or its voxels elsewhere."""
    itk = extra("SimpleITK", f"{kind} files")
    if _refers_elsewhere(content, kind):
        suffix = _SUFFIX[kind]
        raise UserError(f"{name}: a {kind} header whose voxels are in another file; save both as one {suffix}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"volume{_SUFFIX[kind]}"
        with naming(path):
            path.write_bytes(content)  # ITK reads files alone
        reader = itk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        if reader.GetDimension() != 3:
            raise UserError(
                f"{name}: {reader.GetDimension()} axes ({'x'.join(map(str, size))}); a volume has three: save each "
                "volume as a file"
            )
        check_size(size[0] * size[1], size[2] * reader.GetNumberOfComponents(), name, bytes_per_pixel=8)
        image = reader.Execute()
    array = itk.GetArrayFromImage(image)  # z, y, x
    array_DHWC = array[..., None] if array.ndim == 3 else array
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3], affine[:3, 3] = direction[:, ::-1], image.GetOrigin()
    return oriented(array_DHWC, affine, name)


def _refers_elsewhere(content: bytes, kind: str) -> bool:
    """Return whether a header names another file: ITK would read whatever path it says."""
    if kind == "NRRD":
        header = content[: content.find(b"\n\n")].lower()
        return any(line.startswith((b"data file:", b"datafile:")) for line in header.splitlines())
    names = re.findall(rb"elementdatafile\s*=\s*(\S+)", content, re.IGNORECASE)
    return not names or names[0].lower() != b"local"
