"""Draws `synthetic://organs`: scans of the trunk of procedural patients, as NIfTI files, with liver and kidneys.

A patient is a body of ellipsoids in mm, with a liver on the right, two kidneys at the back, and a vessel as bright as
they are that belongs to no class. Every patient is scanned with a spacing and a field of strength of its own (a bias
field), and stored in one of several orientations; every third one is scanned twice. Patient k depends on the seed, k
and the base spacing alone.

Members are `images/patient-<k>/scan-<s>.nii` (int16) and `masks/patient-<k>/scan-<s>.nii` (0 background, 1 liver,
2 kidney): layout `pairs`, in which a patient is a group.

Axes: D depth, H height, W width, as `contracts.volumes` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import Spacing
from segops.data.sources.query import millimetres, whole_number
from segops.progress import track

Array = npt.NDArray[np.float64]

CLASSES = {0: "background", 1: "liver", 2: "kidney"}
_TWICE_EVERY = 3  # patients
_ORIENTATIONS = ("RAS", "LPS", "LAS", "PSR")  # of the files, one after another
_SPACING_FACTORS = (0.8, 1.25)  # of the base spacing, in plane and across planes
_STRENGTH = {"air": 8, "body": 190, "fat": 260, "liver": 330, "kidney": 430}
_NOISE, _BIAS = 24.0, 0.35  # deviation, and the largest logarithm of the bias field
_BLUR_MM = 0.5


class Ellipsoid(NamedTuple):
    """A part of a body, in half the smallest field of view along each axis."""

    centre_DHW: tuple[float, float, float]
    radius_DHW: tuple[float, float, float]
    tissue: str
    label: int = 0


_TRUNK = (
    Ellipsoid((0, 0, 0), (9, 0.85, 0.95), "fat"),
    Ellipsoid((0, 0, 0), (9, 0.76, 0.86), "body"),
    Ellipsoid((0.2, -0.14, -0.36), (0.6, 0.44, 0.38), "liver", 1),
    Ellipsoid((-0.28, 0.38, -0.36), (0.5, 0.2, 0.18), "kidney", 2),
    Ellipsoid((-0.16, 0.38, 0.36), (0.5, 0.2, 0.18), "kidney", 2),
    Ellipsoid((0, 0.2, 0.06), (9, 0.1, 0.1), "kidney"),  # the vessel
)


@dataclass(frozen=True)
class Organs:
    """What `synthetic://organs?n=..&size=..&depth=..&seed=..&spacing=..` asks for.

    n: volumes; size: height and width of a slice, pixels; depth: slices; seed: names the patients; spacing: of a usual
    scan along depth, height and width, mm.
    """

    KEYS: ClassVar[dict[str, Callable[[str], object]]] = {
        "n": whole_number(1, 100_000),
        "size": whole_number(16, 512),
        "depth": whole_number(4, 512),
        "seed": whole_number(0, 2**32 - 1),
        "spacing": millimetres(0.1, 20),
    }

    n: int = 24
    size: int = 48
    depth: int = 24
    seed: int = 0
    spacing: Spacing = (3.0, 1.0, 1.0)

    @property
    def uri(self) -> str:
        """The source's URI, with what isn't the default."""
        spacing = ",".join(f"{value:g}" for value in self.spacing)
        mm = f"&spacing={spacing}" if self.spacing != Organs.spacing else ""
        return f"synthetic://organs?n={self.n}&size={self.size}&depth={self.depth}&seed={self.seed}{mm}"

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of all members, patient by patient."""
        for scan in track(scans(self.n), "drawing synthetic patients", self.n):
            image_DHW, mask_DHW, spacing_mm = draw_scan(self, *scan)
            name = f"patient-{scan[0]:05d}/scan-{scan[1]}.nii"
            orientation = _ORIENTATIONS[scan[0] % len(_ORIENTATIONS)]
            yield f"images/{name}", encode_nifti(image_DHW, spacing_mm, orientation)
            yield f"masks/{name}", encode_nifti(mask_DHW, spacing_mm, orientation)


def scans(n: int) -> list[tuple[int, int]]:
    """Return patient and scan of `n` volumes."""
    every = ((patient, scan) for patient in range(n) for scan in range(2 if patient % _TWICE_EVERY == 0 else 1))
    return [pair for pair, _ in zip(every, range(n), strict=False)]


def draw_scan(query: Organs, patient: int, scan: int) -> tuple[np.ndarray, np.ndarray, Spacing]:
    """Draw a scan of a patient.

    Returns: the image DHW int16, the mask DHW uint8, and the spacing.
    """
    from scipy.ndimage import gaussian_filter

    body = np.random.default_rng([query.seed, patient])
    parts = [_varied(part, body) for part in _TRUNK]
    rng = np.random.default_rng([query.seed, patient, 1 + scan])
    across, in_plane = rng.uniform(*_SPACING_FACTORS, 2)
    depth_mm, height_mm, width_mm = (
        round(float(value * factor), 3)
        for value, factor in zip(query.spacing, (across, in_plane, in_plane), strict=True)
    )
    size_DHW = (query.depth, query.size, query.size)
    units_mm = [_SPACING_FACTORS[0] * size * mm / 2 for size, mm in zip(size_DHW, query.spacing, strict=True)]
    strength_DHW = np.full(size_DHW, float(_STRENGTH["air"]))
    mask_DHW = np.zeros(size_DHW, np.uint8)
    spacing_mm = (depth_mm, height_mm, width_mm)
    places = _places(size_DHW, spacing_mm, units_mm)
    for part in parts:
        inside_DHW = _inside(part, places)
        strength_DHW[inside_DHW] = _STRENGTH[part.tissue]
        mask_DHW[inside_DHW] = part.label
    blurred_DHW = gaussian_filter(strength_DHW, [_BLUR_MM / mm for mm in spacing_mm])
    image_DHW = blurred_DHW * _bias(rng, size_DHW) + rng.normal(0, _NOISE, size_DHW)
    return image_DHW.round().clip(0, 4095).astype(np.int16), mask_DHW, spacing_mm


def _varied(part: Ellipsoid, rng: np.random.Generator) -> Ellipsoid:
    """Return a part as a patient has it: moved a little, smaller or larger."""
    if not part.label:
        return part
    centre = np.asarray(part.centre_DHW) + rng.uniform(-0.06, 0.06, 3)
    radius = np.asarray(part.radius_DHW) * rng.uniform(0.8, 1.1, 3)
    return part._replace(centre_DHW=tuple(centre), radius_DHW=tuple(radius))


def _places(size_DHW: tuple[int, int, int], spacing_mm: Spacing, units_mm: list[float]) -> list[Array]:
    """Return each axis's positions of voxels, 0 in the middle, in units, ready to broadcast."""
    axes: list[Array] = [
        (np.arange(size, dtype=np.float64) - (size - 1) / 2) * mm / unit_mm
        for size, mm, unit_mm in zip(size_DHW, spacing_mm, units_mm, strict=True)
    ]
    return [axis.reshape([-1 if position == place else 1 for place in range(3)]) for position, axis in enumerate(axes)]


def _inside(part: Ellipsoid, places: list[Array]) -> npt.NDArray[np.bool_]:
    """Return the voxels DHW of a part."""
    terms = [((place - c) / r) ** 2 for place, c, r in zip(places, part.centre_DHW, part.radius_DHW, strict=True)]
    return np.asarray(terms[0] + terms[1] + terms[2] <= 1)


def _bias(rng: np.random.Generator, size_DHW: tuple[int, int, int]) -> Array:
    """Draw the bias field of a coil: smooth, around 1."""
    depth, height, width = np.meshgrid(*(np.linspace(-1, 1, size) for size in size_DHW), indexing="ij", sparse=True)
    terms = (depth, height, width, height * width, depth * height, height**2 - 0.3, width**2 - 0.3)
    logarithm = sum(weight * term for weight, term in zip(rng.uniform(-1, 1, len(terms)), terms, strict=True))
    return np.asarray(np.exp(_BIAS * logarithm / np.abs(logarithm).max()))


def encode_nifti(array_DHW: np.ndarray, spacing_mm: Spacing, orientation: str) -> bytes:
    """Encode a volume as NIfTI, its axes stored in an orientation such as RAS, 0 mm in its middle."""
    import nibabel as nib
    from nibabel import orientations

    array_WHD = array_DHW.transpose(2, 1, 0)
    depth_mm, height_mm, width_mm = spacing_mm
    affine = np.diag([-width_mm, -height_mm, depth_mm, 1.0])
    affine[:3, 3] = affine[:3, :3] @ ((1 - np.array(array_WHD.shape)) / 2)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(orientation))
    stored = orientations.apply_orientation(array_WHD, turn)
    image = nib.Nifti1Image(stored, affine @ orientations.inv_ornt_aff(turn, array_WHD.shape))
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())
