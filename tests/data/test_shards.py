import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segops.contracts.dataset import Dataset, Shard
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, write_table
from segops.data.shard_writer import Spool, plan_shards, write_shards
from segops.data.shards import read_example, read_shards
from segops.errors import UserError
from segops.files import sha256_file

RNG = np.random.default_rng(0)
EXAMPLES = {
    "grey_8": (RNG.integers(0, 256, (6, 4, 1), np.uint8), RNG.integers(0, 3, (6, 4), np.uint8)),
    "grey_16": (RNG.integers(0, 65536, (3, 5, 1), np.uint16), RNG.integers(0, 3, (3, 5), np.uint8)),
    "rgb_8": (RNG.integers(0, 256, (4, 4, 3), np.uint8), RNG.integers(0, 3, (4, 4), np.uint8)),
    "rgb_16": (RNG.integers(0, 65536, (2, 7, 3), np.uint16), RNG.integers(0, 3, (2, 7), np.uint8)),
    "n" * 120 + "_ä": (RNG.integers(0, 256, (1, 1, 1), np.uint8), np.zeros((1, 1), np.uint8)),
}
ONE_GROUP = dict.fromkeys(EXAMPLES, "g")


def write(
    folder: Path, groups: dict[str, str], max_bytes: int = 2**20, order: list[str] | None = None
) -> tuple[list[Shard], dict[str, str]]:
    folder.mkdir(parents=True)
    with Spool.open(folder / "spool") as spool:
        for image_id in order or list(groups):
            spool.add(image_id, *EXAMPLES.get(image_id, EXAMPLES["grey_8"]))
    planned, files = plan_shards(spool.members, groups, max_bytes)
    return [shard.about for shard in write_shards(folder, planned)], files


def dataset(folder: Path, shards: list[Shard], files: dict[str, str]) -> Path:
    """dataset.json and a manifest that says of each image only where it is."""
    rows = pd.DataFrame({"image_id": files.keys(), "shard": files.values()})
    blank = {name: "" if kind == "str" else 0 for name, kind in MANIFEST_COLUMNS.items() if name not in rows}
    write_table(rows.assign(**blank), folder / MANIFEST_FILE, MANIFEST_COLUMNS)
    Dataset(
        name="n", licence="l", source="s", source_sha256="0" * 64, layout="pairs", group_by="layout",
        classes=["b", "c"], class_colours=["#000000", "#e69f00"], images=1, groups=1, modalities={}, sizes={},
        channels={}, dtypes={}, class_share={}, intensity_percentiles={}, shards=shards,
        manifest_sha256=sha256_file(folder / MANIFEST_FILE),
    ).save(folder)  # fmt: skip
    return folder


def test_examples_come_back_equal_in_their_own_type(tmp_path: Path) -> None:
    shards, files = write(tmp_path / "d", ONE_GROUP)
    folder = dataset(tmp_path / "d", shards, files)
    read = {image_id: (image_HWC, mask_HW) for image_id, image_HWC, mask_HW in read_shards(folder)}
    assert list(read) == sorted(EXAMPLES)
    for image_id, expected in EXAMPLES.items():
        single = read_example(folder, files[image_id], image_id)
        assert single.objects_HW is None
        for one in (read[image_id], (single.image_HWC, single.mask_HW)):
            for array, wanted in zip(one, expected, strict=True):
                assert array.dtype == wanted.dtype
                np.testing.assert_array_equal(array, wanted)


def test_shards_are_tars_in_webdataset_layout_without_times_and_owners(tmp_path: Path) -> None:
    shards, _ = write(tmp_path / "d", {"rgb_8": "a", "grey_16": "b"})
    with tarfile.open(tmp_path / "d" / shards[0].file) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == [
        "rgb_8.image.png",
        "rgb_8.mask.png",
        "grey_16.image.png",
        "grey_16.mask.png",
    ]
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in infos} == {(0, 0, 0, "", "")}


def test_the_order_of_adding_does_not_change_the_bytes(tmp_path: Path) -> None:
    forth = write(tmp_path / "a", ONE_GROUP)
    back = write(tmp_path / "b", ONE_GROUP, order=list(EXAMPLES)[::-1])
    assert forth == back
    assert (tmp_path / "a" / forth[0][0].file).read_bytes() == (tmp_path / "b" / back[0][0].file).read_bytes()


def test_groups_stay_whole_and_shards_below_the_limit_are_filled_in_order(tmp_path: Path) -> None:
    groups = {f"{group}{i}": group for group in "abcde" for i in range(2)}
    one_group = 2 * 2 * 2 * 512  # two images of two members of a header and a block each
    shards, files = write(tmp_path / "d", groups, max_bytes=2 * one_group + 1024)
    assert [shard.images for shard in shards] == [4, 4, 2]
    assert [shard.size_bytes for shard in shards] == [2 * one_group + 1024] * 2 + [one_group + 1024]
    assert {files[image_id] for image_id in ("a0", "a1", "b0", "b1")} == {"shards/shard-00000.tar"}
    assert files["e1"] == "shards/shard-00002.tar"


def test_a_group_larger_than_a_shard_gets_one_of_its_own(tmp_path: Path) -> None:
    groups = {"a0": "a", "b0": "b", "b1": "b", "b2": "b", "c0": "c"}
    shards, _ = write(tmp_path / "d", groups, max_bytes=2 * 2 * 512 + 1024)
    assert [shard.images for shard in shards] == [1, 3, 1]


def test_long_and_foreign_names_are_counted_in_full(tmp_path: Path) -> None:
    odd = "n" * 120 + "_ä"
    shards, _ = write(tmp_path / "d", {odd: odd})
    limit = shards[0].size_bytes
    again, _ = write(tmp_path / "e", {odd: odd, "rgb_8": odd}, max_bytes=limit)
    assert again[0].size_bytes > limit  # one group
    apart, _ = write(tmp_path / "f", {odd: odd, "rgb_8": "z"}, max_bytes=limit)
    assert [shard.size_bytes <= limit for shard in apart] == [True, True]


@pytest.mark.parametrize(
    ("keep", "message"), [(None, "no such shard"), (300, "damaged shard"), (1300, "damaged shard")]
)
def test_a_missing_or_damaged_shard_is_an_error_that_names_it(keep: int | None, message: str, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", *write(tmp_path / "d", ONE_GROUP))
    shards = Dataset.load(folder).shards
    path = folder / shards[0].file
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[:keep])
    with pytest.raises(UserError, match=rf"shard-00000.tar: {message}"):
        list(read_shards(folder))
    with pytest.raises(UserError, match=r"shard-00000.tar: "):
        read_example(folder, shards[0].file, "rgb_8")


def test_an_example_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    shards, _ = write(tmp_path / "d", ONE_GROUP)
    with pytest.raises(UserError, match="holds no 'other'"):
        read_example(tmp_path / "d", shards[0].file, "other")


def test_a_pickled_array_in_a_shard_is_not_loaded(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for part in ("image", "mask"):
            info = tarfile.TarInfo(f"a.{part}.npy")
            info.size = len(stream.getvalue())
            tar.addfile(info, io.BytesIO(stream.getvalue()))
    with pytest.raises(UserError, match="damaged shard"):
        read_example(tmp_path, "s.tar", "a")
