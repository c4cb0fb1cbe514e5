"""Volumes from a source to prepared data."""

from pathlib import Path

import numpy as np
import pytest

from segops.commands.audit import audit
from segops.contracts.tables import MANIFEST_ADDED, MANIFEST_COLUMNS, read_table, write_table
from segops.data.arrays import PreparedData
from segops.data.manifest import read_manifest, subset_sha256
from segops.data.sources.organs import draw_scan, scans
from segops.params.validate import ValidateParams
from segops.stages.validate import validate
from tests.support.tiny_volumes import QUERY, prepared_volumes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_volumes(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def dataset(prepared: PreparedData) -> Path:
    return prepared.folder.parent / "dataset"


def test_prepared_volumes_are_those_that_were_drawn_whatever_their_orientation(prepared: PreparedData) -> None:
    for row, scan in enumerate(scans(QUERY.n)):
        image_DHW, mask_DHW, spacing_mm = draw_scan(QUERY, *scan)
        np.testing.assert_array_equal(prepared.image(row)[..., 0], image_DHW)
        np.testing.assert_array_equal(prepared.mask(row), mask_DHW)
        assert prepared.size(row) == (10, 24, 24)
        assert prepared.spacing_mm(row) == pytest.approx(spacing_mm, rel=1e-6)
    assert prepared.meta.dimensions == 3


def test_a_patient_is_a_group_and_some_have_two_volumes(dataset: Path) -> None:
    about, manifest = read_manifest(dataset)
    assert (about.dimensions, about.images, about.groups) == (3, 8, 6)
    assert manifest.groupby("group_id").size().tolist() == [2, 1, 1, 2, 1, 1]
    assert about.sizes == {"10x24x24": 8}
    assert about.spacing_mm is not None


def test_the_liver_is_on_the_right_and_kidneys_are_at_the_back(prepared: PreparedData) -> None:
    for row in range(len(prepared)):
        mask_DHW = prepared.mask(row)
        assert np.nonzero(mask_DHW == 1)[2].mean() < 11.5  # W grows to the left
        assert np.nonzero(mask_DHW == 2)[1].mean() > 11.5  # H grows to the back


def test_volumes_pass_validation_and_their_report_says_what_was_seen(dataset: Path, tmp_path: Path) -> None:
    params = ValidateParams(dtypes=["int16"], min_size_px=16, min_images=8)
    report = validate(params, dataset=dataset, report=tmp_path / "report")
    outcomes = {expectation.name: expectation.success for expectation in report.expectations}
    assert outcomes["depths"]
    assert outcomes["spacing known"]
    assert outcomes["related images share a group"]


def test_equal_pixels_of_another_spacing_are_another_test_set(dataset: Path) -> None:
    _, manifest = read_manifest(dataset)
    stretched = manifest.assign(spacing_d_mm=manifest["spacing_d_mm"] * 2)
    assert subset_sha256(manifest) != subset_sha256(stretched)


def test_a_manifest_of_before_volumes_reads_as_pictures(tmp_path: Path, dataset: Path) -> None:
    _, manifest = read_manifest(dataset)
    old = {name: kind for name, kind in MANIFEST_COLUMNS.items() if name not in MANIFEST_ADDED}
    write_table(manifest, tmp_path / "manifest.parquet", old)
    read = read_table(tmp_path / "manifest.parquet", MANIFEST_COLUMNS, added=MANIFEST_ADDED)
    assert (read["depth"] == 1).all()
    assert read["spacing_d_mm"].isna().all()
    assert subset_sha256(read) != subset_sha256(manifest)


def test_audit_compares_volumes_by_their_slices(dataset: Path, prepared: PreparedData, tmp_path: Path) -> None:
    split = prepared.folder.parent / "split" / "split.parquet"
    audited = audit(dataset=dataset, split=split, report=tmp_path / "audit")
    assert audited.leaking_images == 0
    assert audited.test_images == len(prepared.rows("test"))
