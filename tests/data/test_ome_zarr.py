"""OME-Zarr: images that are folders, read at a level, with their axes as they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from segops.data.decoders.decode import decode, decode_planes
from segops.data.decoders.ome_zarr import pointer
from segops.data.images import read_image
from segops.data.shards import read_shards
from segops.errors import UserError
from segops.params.file_rules import FileRules
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params, tar_folder, write_image
from tests.support.image_files import write_zarr

RNG = np.random.default_rng(0)
CHANNELS = RNG.integers(0, 4095, (2, 64, 80), np.uint16)


@pytest.mark.parametrize("zarr_format", [2, 3], ids=["0.4", "0.5"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_is_read_with_channels_last(zarr_format: int, level: int, tmp_path: Path) -> None:
    content = pointer(write_zarr(tmp_path / "a.ome.zarr", CHANNELS, "cyx", zarr_format))
    expected = np.moveaxis(CHANNELS, 0, -1)[:: 1 << level, :: 1 << level]
    np.testing.assert_array_equal(read_image(content, "a", rules=FileRules(level=level)), expected)


def test_five_axes_of_one_plane_are_an_image_and_of_more_are_planes(tmp_path: Path) -> None:
    single = pointer(write_zarr(tmp_path / "a.zarr", CHANNELS[None, :, None], "tczyx"))
    np.testing.assert_array_equal(decode(single, "a").array_HWC, np.moveaxis(CHANNELS, 0, -1))
    slices = np.stack([CHANNELS, CHANNELS // 2, CHANNELS // 3], axis=1)[None]  # t c z y x
    stack = pointer(write_zarr(tmp_path / "b.zarr", slices, "tczyx"))
    with pytest.raises(UserError, match=r"^b: OME-Zarr of 3 planes \(axes TCZYX\); set ingest.planes: split"):
        decode(stack, "b")
    planes = decode_planes(stack, "b")
    for number, plane in enumerate(planes, start=1):
        np.testing.assert_array_equal(plane.array_HWC, np.moveaxis(CHANNELS // number, 0, -1))


def test_what_is_not_ome_s_is_refused_in_a_line(tmp_path: Path) -> None:
    plain = zarr.open_group(tmp_path / "plain.zarr", mode="w")
    plain.create_array("0", shape=(4, 4), dtype="u1")
    with pytest.raises(UserError, match=r"^a: a Zarr without OME's 'multiscales'"):
        decode(pointer(tmp_path / "plain.zarr"), "a")
    odd = write_zarr(tmp_path / "odd.zarr", CHANNELS, "qyx")
    with pytest.raises(UserError, match=r"^a: axes QYX of an array of 3 dimensions"):
        decode(pointer(odd), "a")
    few = write_zarr(tmp_path / "few.zarr", CHANNELS, "cyx", levels=1)
    with pytest.raises(UserError, match=r"^a: ingest.level is 2, but the image has 1 levels"):
        decode(pointer(few), "a", rules=FileRules(level=2))
    (few / ".zattrs").write_text("{")
    with pytest.raises(UserError, match=r"^a: damaged or truncated OME-Zarr"):
        decode(pointer(few), "a")


def test_bytes_of_a_file_are_never_a_pointer(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", CHANNELS, "cyx")
    forged = b"\0OME-Zarr\0" + bytes(16) + str(tmp_path / "a.zarr").encode()
    with pytest.raises(UserError, match="not an image of a known kind"):
        decode(forged, "a.zarr")


def test_images_that_are_folders_pair_and_count_as_one_file(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(3):
        write_zarr(raw / "images" / f"{number}.ome.zarr", CHANNELS[:, :, : 64 + number], "cyx")
        write_image(raw / "masks" / f"{number}.ome.png", np.eye(64, 64 + number, dtype=np.uint8) * 255)
    dataset = ingest(ingest_params(raw), dataset=tmp_path / "d")
    assert (dataset.images, dataset.unused, dataset.uint16_bits) == (3, [], 12)
    for number, (_, image_HWC, _) in enumerate(read_shards(tmp_path / "d")):
        np.testing.assert_array_equal(image_HWC, np.moveaxis(CHANNELS, 0, -1)[:, : 64 + number])
    before = dataset.source_sha256
    attributes = raw / "images" / "0.ome.zarr" / ".zattrs"
    attributes.write_text(json.dumps({**json.loads(attributes.read_text()), "note": 1}))
    assert ingest(ingest_params(raw), dataset=tmp_path / "d").source_sha256 != before


def test_a_zarr_in_an_archive_is_called_by_its_name(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_zarr(raw / "images" / "a.zarr", CHANNELS, "cyx", 3)
    for folder in ("images", "masks"):
        write_image(raw / folder / "b.png", np.eye(8, dtype=np.uint8) * 255)
    dataset = ingest(ingest_params(tar_folder(raw, tmp_path / "raw.tar")), dataset=tmp_path / "d")
    assert [entry.kind for entry in dataset.unused] == ["OME-Zarr in an archive, which isn't read: unpack it"]
