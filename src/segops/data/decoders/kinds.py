"""Tells kinds of image files by their first bytes, and those that aren't read by their name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from segops.data.decoders.ome_zarr import is_pointer

READ = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WebP", "JPEG 2000", "NPY", "NPZ", "OME-Zarr")
VOLUMES = ("NIfTI", "DICOM", "MetaImage", "NRRD", "TIFF")
VOLUME_SUFFIXES = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
}
HEADERS = (".mhd", ".nhdr")  # whose voxels are in a file beside them
SUFFIXES = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WebP",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".npy": "NPY",
    ".npz": "NPZ",
    # Whole-slide files that are TIFFs by their content.
    ".svs": "TIFF",
    ".btf": "TIFF",
    ".zarr": "OME-Zarr",
    **VOLUME_SUFFIXES,
}
UNREAD_SUFFIXES = {
    ".apng": "a moving PNG",
    ".avif": "AVIF",
    ".bif": "Ventana BIF",
    ".czi": "Zeiss CZI",
    ".dib": "BMP as DIB",
    ".dm3": "Gatan DM3",
    ".dm4": "Gatan DM4",
    ".exr": "OpenEXR",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hdr": "NIfTI or Analyze (a header)",
    ".ims": "Imaris",
    ".jfif": "JPEG as JFIF",
    ".jpe": "JPEG as JPE",
    ".jxl": "JPEG XL",
    ".lif": "Leica LIF",
    ".lsm": "Zeiss LSM",
    ".mat": "MATLAB",
    ".mrc": "MRC",
    ".mrxs": "MIRAX",
    ".nd2": "Nikon ND2",
    ".ndpi": "Hamamatsu NDPI",
    ".oib": "Olympus OIB",
    ".oif": "Olympus OIF",
    ".pbm": "PNM",
    ".pdf": "PDF",
    ".pgm": "PNM",
    ".pnm": "PNM",
    ".ppm": "PNM",
    ".psd": "Photoshop PSD",
    ".qptiff": "PerkinElmer QPTIFF",
    ".scn": "Leica SCN",
    ".stk": "MetaMorph STK",
    ".svg": "SVG",
    ".tga": "TGA",
    ".vsi": "Olympus VSI",
    ".vtk": "VTK",
}

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x93NUMPY": "NPY",
    b"PK\3\4": "NPZ",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"ZISRAWFILE": "Zeiss CZI",
    b"\xda\xce\xbe\n": "Nikon ND2",
    b"8BPS": "Photoshop PSD",
    b"NRRD": "NRRD",
    b"%PDF": "PDF",
    b"v/1\x01": "OpenEXR",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a Microsoft compound file, such as Olympus OIB",
    b"ObjectType": "MetaImage",
    b"MATLAB 5.0": "MATLAB",
    b"<svg": "SVG",
    b"p\0\0\0": "Leica LIF",
    b"\x1f\x8b": "a gzip file, such as NIfTI",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (`git lfs pull` gets it)",
}
_NIFTI_GZ = ".nii.gz"
_PNM = tuple(f"P{number}".encode() for number in range(1, 8))


def kind_of(content: bytes, name: str) -> str | None:
    """Return what a file is by its first bytes, else by a suffix that is known; None: unknown."""
    if is_pointer(content):
        return "OME-Zarr"
    kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
    if kind is not None:
        return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[128:132] == b"DICM":
        return "DICOM"
    if content[344:348] in (b"n+1\0", b"ni1\0") or content[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if content[4:8] == b"ftyp":
        return "AVIF" if content[8:12] in (b"avif", b"avis") else "HEIC"
    if content[:2] in _PNM and content[2:3].isspace():
        return "PNM"
    suffix = image_suffix(name)
    return VOLUME_SUFFIXES.get(suffix) or UNREAD_SUFFIXES.get(suffix)


def image_suffix(name: str) -> str:
    """Return a file's suffix in lower case; `.nii.gz` is one."""
    return _suffix(name).lower()


def image_stem(name: str) -> str:
    """Return a path without the suffix of its file; `.nii.gz` is one."""
    return name.removesuffix(_suffix(name))


def _suffix(name: str) -> str:
    """Return a file's suffix as it is written."""
    suffix = PurePosixPath(name).suffix
    return name[-len(_NIFTI_GZ) :] if name.lower().endswith(_NIFTI_GZ) else suffix


def data_of_headers(headers: Iterable[str], names: Iterable[str]) -> set[str]:
    """Return the files that are called as a header and are therefore its data, such as `a.raw` beside `a.mhd`."""
    stems = {image_stem(name) for name in headers if image_suffix(name) in HEADERS}
    ends = ((name, place) for name in names for place, letter in enumerate(name) if letter == ".")
    return {name for name, place in ends if name[:place] in stems} if stems else set()


def unread_kind(name: str) -> str | None:
    """Return the kind of an image file that isn't read, by its suffix; None for another file."""
    return UNREAD_SUFFIXES.get(image_suffix(name))
