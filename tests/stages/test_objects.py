"""Objects that the source tells apart, from its files through ingest, split, prepare and evaluate to the reports."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from segops.contracts.dataset import Dataset
from segops.contracts.prepared import Prepared
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, read_table, write_table
from segops.data.arrays import PreparedData
from segops.data.fingerprint import array_sha256
from segops.data.flat_files import OBJECTS
from segops.data.manifest import read_manifest
from segops.data.objects import PIECES
from segops.data.shards import read_example, read_examples
from segops.errors import UserError
from segops.files import sha256_file, sha256_lines
from segops.params.evaluate import EvaluateParams
from segops.params.inference import InstanceParams
from segops.params.runtime import RuntimeParams
from segops.pictures.thumbnails import Thumbnails
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from tests.support.factories import ingest_params, tiny_split, write_image
from tests.support.small_models import brightness_params, brightness_program, save_candidate

IDS = {"mask_kind": "objects"}
SIDE = 48


def rectangles(seed: int, first: int = 1) -> np.ndarray:
    """Ids HW of rectangles of 10x8 pixels, in rows of two that touch."""
    ids_HW = np.zeros((SIDE, SIDE), np.uint64)
    for row in range(3):
        for column in range(2):
            top, left = 3 + 15 * row, 6 + 8 * column + seed % 5
            ids_HW[top : top + 10, left : left + 8] = first + 2 * row + column
    return ids_HW


def write_ids(raw: Path, n: int = 8, dtype: str = "uint16", first: int = 1) -> list[np.ndarray]:
    """`images/<i>.png` that are bright in objects, and `masks/<i>.tif` of ids; the objects, numbered from 1."""
    (raw / "masks").mkdir(parents=True)
    for i in range(n):
        ids_HW = rectangles(i, first)
        noise_HW = np.random.default_rng(i).integers(0, 40, ids_HW.shape, np.uint8)
        write_image(raw / "images" / f"{i}.png", ((ids_HW > 0) * np.uint8(150) + noise_HW)[..., None])
        tifffile.imwrite(raw / "masks" / f"{i}.tif", ids_HW.astype(dtype))
    return [rectangles(i).astype(np.uint16) for i in range(n)]


def run(raw: Path, dataset: Path, **changes: Any) -> tuple[Dataset, pd.DataFrame]:
    result = ingest(ingest_params(raw, **changes), dataset=dataset)
    return result, read_manifest(dataset)[1]


def prepared_of(dataset: Path) -> PreparedData:
    split = tiny_split(dataset, dataset.parent / "split")
    prepare(dataset=dataset, split=split, prepared=dataset.parent / "prepared")
    return PreparedData.open(dataset.parent / "prepared")


@pytest.mark.parametrize(
    ("dtype", "first"),
    [
        ("uint8", 1), ("uint8", 250), ("uint16", 1), ("uint16", 60_000), ("int32", 70_000), ("uint32", 2**31 + 9),
        ("int64", 2**40), ("uint64", 2**63), ("float32", 1), ("float64", 2**40),
    ],
)  # fmt: skip
def test_every_object_of_a_file_of_ids_arrives_and_touching_ones_stay_apart(
    dtype: str, first: int, tmp_path: Path
) -> None:
    expected = write_ids(tmp_path / "raw", 2, dtype, first)
    dataset, manifest = run(tmp_path / "raw", tmp_path / "d", **IDS)
    assert (dataset.objects, dataset.classes, dataset.changes) == (12, ["background", "foreground"], [])
    assert manifest["instances"].tolist() == [6, 6]
    for example, objects_HW in zip(read_examples(tmp_path / "d"), expected, strict=True):
        assert example.objects_HW is not None
        np.testing.assert_array_equal(example.objects_HW, objects_HW)
        np.testing.assert_array_equal(example.mask_HW, objects_HW > 0)
    assert manifest["objects_sha256"].tolist() == [array_sha256(objects_HW) for objects_HW in expected]
    with tarfile.open(tmp_path / "d" / dataset.shards[0].file) as tar:
        assert [name for name in tar.getnames() if ".objects." in name] == ["0.objects.png", "1.objects.png"]


def test_a_mask_per_object_gives_the_same_objects_as_ids(tmp_path: Path) -> None:
    (expected,) = write_ids(tmp_path / "ids", 1)
    for layout, changes in (("bowl", {"layout": "dsb2018"}), ("pairs", {}), ("ids in files", IDS)):
        raw = tmp_path / layout
        image, masks = ("i0/images/0.png", "i0/masks") if layout == "bowl" else ("images/0.png", "masks/0")
        write_image(raw / image, np.full((SIDE, SIDE, 1), 9, np.uint8))
        for number in range(1, 7):
            write_image(raw / masks / f"{number}.png", (expected == number).astype(np.uint8) * 255)
        run(raw, tmp_path / f"{layout} d", **changes)
        (example,) = read_examples(tmp_path / f"{layout} d")
        assert example.objects_HW is not None
        np.testing.assert_array_equal(example.objects_HW, expected)


def test_an_object_in_several_pieces_is_told(tmp_path: Path) -> None:
    write_ids(tmp_path / "raw", 2)
    ids_HW = np.zeros((SIDE, SIDE), np.uint16)
    ids_HW[:4, :4] = ids_HW[10:12, 10:12] = 7
    tifffile.imwrite(tmp_path / "raw/masks/0.tif", ids_HW)
    dataset, manifest = run(tmp_path / "raw", tmp_path / "d", **IDS)
    assert manifest["instances"].tolist() == [1, 6]
    assert [(change.change, change.named) for change in dataset.changes] == [(PIECES, {"masks/0.tif": 4})]


def test_masks_of_a_class_under_mask_kind_objects_are_refused_with_what_to_write(tmp_path: Path) -> None:
    for i, objects_HW in enumerate(write_ids(tmp_path / "raw", 3)):
        tifffile.imwrite(tmp_path / f"raw/masks/{i}.tif", (objects_HW > 0).astype(np.uint8) * 255)
    with pytest.raises(UserError, match=r"in several pieces in 3 of 3 masks: .*; write ingest\.mask_kind: classes"):
        run(tmp_path / "raw", tmp_path / "d", **IDS)
    tifffile.imwrite(tmp_path / "raw/masks/0.tif", rectangles(0).astype(np.uint16))  # some mask holds several ids
    dataset, _ = run(tmp_path / "raw", tmp_path / "d", **IDS)
    assert dataset.objects == 6 + 2


def test_ids_under_mask_kind_classes_are_refused_with_what_to_write(tmp_path: Path) -> None:
    write_ids(tmp_path / "raw", 1)
    for rule in ("error", "nearest"):
        with pytest.raises(UserError, match=r"0\.tif: .* look like ids of objects: write ingest\.mask_kind: objects"):
            run(tmp_path / "raw", tmp_path / "d", stray_values=rule)


def test_other_objects_under_the_same_mask_are_another_dataset(tmp_path: Path) -> None:
    write_ids(tmp_path / "raw", 3)
    one, before = run(tmp_path / "raw", tmp_path / "v1", **IDS)
    tifffile.imwrite(
        tmp_path / "raw/masks/1.tif", np.minimum(rectangles(1), 5).astype(np.uint16)
    )  # two objects become one
    changes = {**IDS, "base": str(tmp_path / "v1")}
    two, after = run(tmp_path / "raw", tmp_path / "v2", **changes)
    assert one.manifest_sha256 != two.manifest_sha256
    assert (before["mask_sha256"] == after["mask_sha256"]).all()
    assert two.growth is not None
    assert (two.growth.groups_kept, two.growth.groups_changed, two.growth.images_written) == (2, 1, 1)
    counts = [
        int(example.objects_HW.max()) for example in read_examples(tmp_path / "v2") if example.objects_HW is not None
    ]
    assert sorted(counts) == [5, 6, 6]
    assert after["shard"].nunique() == 2


def test_a_dataset_of_before_there_were_objects_can_be_grown(tmp_path: Path) -> None:
    write_ids(tmp_path / "raw", 2)
    run(tmp_path / "raw", tmp_path / "v1", **IDS)
    old = {name: kind for name, kind in MANIFEST_COLUMNS.items() if name != "objects_sha256"}
    path = tmp_path / "v1" / MANIFEST_FILE
    write_table(read_table(path, MANIFEST_COLUMNS), path, old)
    about = Dataset.load(tmp_path / "v1").model_copy(update={"manifest_sha256": sha256_file(path)})
    about.save(tmp_path / "v1")
    grown, manifest = run(tmp_path / "raw", tmp_path / "v2", **IDS, base=str(tmp_path / "v1"))
    assert grown.growth is not None
    assert (grown.growth.groups_kept, grown.growth.groups_changed) == (0, 2)
    assert manifest["objects_sha256"].str.len().eq(64).all()


def test_prepared_objects_are_those_of_the_shards(tmp_path: Path) -> None:
    expected = write_ids(tmp_path / "raw")
    _, manifest = run(tmp_path / "raw", tmp_path / "dataset", **IDS)
    data = prepared_of(tmp_path / "dataset")
    for row, objects_HW in enumerate(expected):
        found_HW = data.objects(row)
        assert found_HW is not None
        assert found_HW.dtype == np.uint16
        assert not found_HW.flags.writeable
        np.testing.assert_array_equal(found_HW, objects_HW)
        np.testing.assert_array_equal(data.of_fold(0).objects(row), objects_HW)
    meta = Prepared.load(tmp_path / "prepared")
    assert meta.objects_sha256 == sha256_lines(manifest["objects_sha256"])
    stored = read_example(tmp_path / "dataset", manifest["shard"][0], "0")
    np.testing.assert_array_equal(stored.objects_HW, expected[0])
    data.verify_pixels()
    content = bytearray((tmp_path / "prepared" / OBJECTS).read_bytes())
    content[0] ^= 1
    (tmp_path / "prepared" / OBJECTS).write_bytes(content)
    with pytest.raises(UserError, match=r"objects.bin: differs from what prepared.json describes"):
        data.verify_pixels()


def test_sources_that_tell_some_objects_apart_and_others_not(tmp_path: Path) -> None:
    (objects_HW, *_), raw = write_ids(tmp_path / "raw", 6), tmp_path / "raw"
    for i in range(6):
        (raw / "masks" / f"{i}.tif").unlink()
        for number in range(1, 7) if i % 2 else ():
            write_image(raw / "masks" / str(i) / f"{number}.png", (objects_HW == number).astype(np.uint8) * 255)
        if i % 2 == 0:
            write_image(raw / "masks" / f"{i}.png", (objects_HW > 0).astype(np.uint8) * 255)
    dataset, manifest = run(raw, tmp_path / "dataset")
    assert (dataset.objects, manifest["instances"].tolist()) == (18, [-1, 6] * 3)
    data = prepared_of(tmp_path / "dataset")
    assert [data.objects(row) is None for row in range(6)] == [True, False] * 3
    np.testing.assert_array_equal(data.objects(5), objects_HW)


def test_objects_that_a_shard_has_lost_are_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "raw", 4)
    dataset, _ = run(tmp_path / "raw", tmp_path / "dataset", **IDS)
    shard = tmp_path / "dataset" / dataset.shards[0].file
    kept = io.BytesIO()
    with tarfile.open(shard) as tar, tarfile.open(fileobj=kept, mode="w") as copy:
        for info in tar:
            if info.name != "2.objects.png":
                copy.addfile(info, tar.extractfile(info))
    shard.write_bytes(kept.getvalue())
    split = tiny_split(tmp_path / "dataset", tmp_path / "split")
    with pytest.raises(UserError, match=r"shard-00000\.tar: '2' differs from its hash in the manifest"):
        prepare(dataset=tmp_path / "dataset", split=split, prepared=tmp_path / "prepared")


@pytest.mark.parametrize(
    ("kind", "truth", "objects"), [("objects", "objects of the source", 6), ("classes", "connected components", 3)]
)
def test_evaluate_matches_the_source_s_objects_where_it_tells_them_apart(
    kind: str, truth: str, objects: int, tmp_path: Path
) -> None:
    expected, raw = write_ids(tmp_path / "raw", 8), tmp_path / "raw"
    if kind == "classes":
        for i, objects_HW in enumerate(expected):
            (raw / "masks" / f"{i}.tif").unlink()
            write_image(raw / "masks" / f"{i}.png", (objects_HW > 0).astype(np.uint8) * 255)
    run(raw, tmp_path / "dataset", mask_kind=kind)
    data = prepared_of(tmp_path / "dataset")
    params = brightness_params()
    inference = params.inference.model_copy(update={"instances": InstanceParams(method="components")})
    params = params.model_copy(update={"inference": inference})
    save_candidate(tmp_path / "model", brightness_program(), params, data.meta, threshold=0.4)
    made = evaluate(
        EvaluateParams(gallery_images=1), RuntimeParams(threads=2, device="cpu"),
        prepared=tmp_path / "prepared", model=tmp_path / "model", report=tmp_path / "report",
    )  # fmt: skip
    images = len(data.rows("test"))
    found = made.test.instances
    assert found is not None
    assert (found.truth, found.objects, found.predicted) == (truth, objects * images, 3 * images)
    told_apart = kind == "objects"
    assert (found.merges, found.splits) == (3 * images if told_apart else 0, 0)
    # The mask is right but for a few pixels. A pair of objects that is found as one has an IoU of 1/2 with each.
    assert found.ap50.mean == pytest.approx(3 / 6 if told_apart else 1)
    assert found.by_iou["0.55"] == (0 if told_apart else 1)
    assert found.pq is not None
    assert found.pq.mean == pytest.approx(0 if told_apart else 1, abs=0.1)
    figures = json.loads((tmp_path / "report" / "scores.json").read_text())["test"]
    assert (figures["ap"], figures["pq"]) == (found.ap.mean, found.pq.mean)
    table = pd.read_csv(tmp_path / "report" / "per_image.csv").query("subset == 'test'")
    assert table["merges"].tolist() == [3 if told_apart else 0] * images
    page = (tmp_path / "report" / "gallery.html").read_text(encoding="utf-8")
    assert f"AP of objects, test (truth: {truth})" in page
    assert ("The source tells no objects apart" in " ".join(page.split())) is not told_apart
    thumbnails = Thumbnails(tmp_path / "report" / "thumbnails.zip")
    true_seams, found_seams = thumbnails.seams(str(data.index["image_id"][data.rows("test")[0]]))
    assert found_seams is not None
    assert not found_seams.any()
    if told_apart:
        assert true_seams is not None
        assert np.count_nonzero(true_seams) == 3 * 10  # a line of ten pixels between each two
    else:
        assert true_seams is None
