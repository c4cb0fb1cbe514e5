"""The expectations on a manifest, the stage's report and its messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segops.contracts.dataset import Dataset
from segops.contracts.tables import MANIFEST_COLUMNS
from segops.contracts.validation import Expectation, ValidationReport
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.validate import validate
from segops.validation.checks import checks
from segops.validation.suite import run

CLASSES = ["background", "nucleus"]
SIDE_PX = 48


def good_manifest(images: int = 12) -> pd.DataFrame:
    """Rows that meet every expectation: two images a group."""
    rows = [
        {
            "image_id": f"img{i:02d}",
            "group_id": f"field{i // 2}",
            "shard": "shards/0.tar",
            "given_subset": "",
            "modality": "fluorescence",
            "height": SIDE_PX,
            "width": 64,
            "channels": 1,
            "dtype": "uint8",
            "mask_height": SIDE_PX,
            "mask_width": 64,
            "image_sha256": f"{i:064x}",
            "mask_sha256": f"{i + 1000:064x}",
            "objects_sha256": f"{i + 2000:064x}",
            "foreground_fraction": 0.2,
            "classes": "0 1",
            "instances": 3,
            "intensity_min": 0.0,
            "intensity_max": 1.0,
            "intensity_mean": 0.3,
            "intensity_std": 0.1,
            "saturated_fraction": 0.0,
            "source_image": f"images/img{i:02d}.png",
            "source_mask": f"masks/img{i:02d}.png",
        }
        for i in range(images)
    ]
    return pd.DataFrame(rows)[list(MANIFEST_COLUMNS)]


def outcomes(manifest: pd.DataFrame, **params: Any) -> dict[str, Expectation]:
    return {check.name: outcome for check, outcome in run(manifest, ValidateParams(**params), CLASSES)}


def failing(found: dict[str, Expectation]) -> dict[str, list[str]]:
    return {name: one.failing_ids for name, one in found.items() if not one.success}


def test_a_good_manifest_meets_at_least_fifteen_expectations() -> None:
    found = outcomes(good_manifest())
    assert failing(found) == {}
    assert len(found) >= 15
    assert {one.severity for one in found.values()} == {"critical", "warning"}


def test_each_broken_row_fails_its_own_expectation_and_names_its_image() -> None:
    manifest = good_manifest(24)
    breaks: dict[str, tuple[str, Any]] = {
        "image id format": ("image_id", "img.00"),
        "group ids present": ("group_id", None),
        "group ids not empty": ("group_id", " "),
        "image and mask size equal": ("mask_width", 63),
        "sample types": ("dtype", "float32"),
        "channel counts": ("channels", 4),
        "heights": ("height", 20000),
        "widths": ("width", 31),
        "darkest sample": ("intensity_min", -0.1),
        "brightest sample": ("intensity_max", 1.5),
        "no constant image": ("intensity_std", 0.0),
        "few saturated pixels": ("saturated_fraction", 0.51),
        "no empty mask": ("foreground_fraction", 0.0),
        "no full mask": ("foreground_fraction", 1.0),
        "allowed classes only": ("classes", "0 1 2"),
    }
    expected: dict[str, list[str]] = {}
    for row, (name, (column, value)) in enumerate(breaks.items()):
        values = manifest[column].tolist()
        values[row] = value
        manifest[column] = values
        expected[name] = [manifest["image_id"].tolist()[row]]
    manifest.loc[20:21, "image_sha256"] = "f" * 64  # img20 and img21 are in one group
    manifest.loc[[19, 22], "image_sha256"] = "c" * 64  # field9 and field11
    manifest.loc[16:17, "mask_sha256"] = "e" * 64
    expected["unique images"] = ["img19", "img20", "img21", "img22"]
    expected["duplicates share a group"] = ["img19", "img22"]
    expected["unique masks"] = ["img16", "img17"]
    # A changed height or width also differs from its mask's, by construction.
    expected["image and mask size equal"] = ["img03", "img06", "img07"]
    expected["foreground fraction"] = ["img12", "img13"]  # 2 of 24 outside, 5 % allowed

    found = outcomes(manifest)

    assert failing(found) == expected
    assert found["unique images"].severity == "warning"
    assert found["duplicates share a group"].severity == "critical"
    assert found["widths"].detail.endswith("seen: otherwise in 1 of 24 images: img07 (31)")


def test_whole_table_expectations_fail_without_ids() -> None:
    manifest = good_manifest(8).assign(group_id=["a"] * 7 + ["b"], classes="0", foreground_fraction=0.002)
    found = outcomes(manifest)
    assert failing(found) == {
        "enough images": [],
        "enough groups": [],
        "no dominant group": [],
        "mean foreground": [],
        "class nucleus present": [],
    }
    assert found["no dominant group"].detail.endswith("seen: 0.875")  # 7 of 8
    assert found["enough images"].detail == "expected: at least 10 images; seen: 8"


def test_allowed_empty_and_full_masks_are_no_finding_and_leave_the_foreground_range() -> None:
    manifest = good_manifest()
    manifest.loc[:3, "foreground_fraction"] = 0.0
    manifest.loc[:3, "classes"] = "0"
    manifest.loc[:3, "mask_sha256"] = "d" * 64  # empty masks of one size are equal
    manifest.loc[4, "foreground_fraction"] = 1.0
    assert failing(outcomes(manifest, allow_empty_masks=True, allow_full_masks=True)) == {}


def test_thresholds_come_from_the_params() -> None:
    names = {check.name for check in checks(ValidateParams(), CLASSES)}
    loose = {check.name for check in checks(ValidateParams(allow_empty_masks=True, allow_full_masks=True), CLASSES)}
    assert names - loose == {"no empty mask", "no full mask"}
    assert len({check.name for check in checks(ValidateParams(), CLASSES)}) == len(checks(ValidateParams(), CLASSES))


def write_pairs(folder: Path, *, broken: bool) -> None:
    """Twelve images with a bright square each; with `broken` a constant one, a duplicate and an empty mask."""
    random = np.random.default_rng(0)
    for i in range(12):
        image = random.integers(0, 60, (SIDE_PX, SIDE_PX), dtype=np.uint8)
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[10 + i : 26 + i, 8:24] = 255
        image[mask > 0] += 120
        if broken and i == 3:
            image[:] = 7
        if broken and i == 5:
            mask[:] = 0
        for kind, array in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"cell{i:02d}.png")
    if broken:
        (folder / "images" / "cell07.png").write_bytes((folder / "images" / "cell08.png").read_bytes())


def make_dataset(folder: Path, *, broken: bool) -> Path:
    write_pairs(folder / "raw", broken=broken)
    params = IngestParams(source=str(folder / "raw"), mask_values={0: "background", 255: "nucleus"}, group_by="image")
    ingest(params, dataset=folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a dataset that failed, and the message."""
    folder = tmp_path_factory.mktemp("broken")
    dataset = make_dataset(folder, broken=True)
    with pytest.raises(UserError) as caught:
        validate(ValidateParams(), dataset=dataset, report=folder / "report")
    return folder, str(caught.value)


def test_a_critical_failure_names_expectation_images_page_and_fix_in_one_line(broken: tuple[Path, str]) -> None:
    folder, message = broken
    assert message == (
        f"validation failed: duplicates share a group: 2 images: cell07, cell08 (see {folder / 'report/report.html'}); "
        "fix: remove one of each pair, or give both one group (ingest.group_by: fields does) (and 1 more)"
    )


def test_the_report_of_a_failed_dataset_is_written_and_complete(broken: tuple[Path, str]) -> None:
    folder, _ = broken
    report = ValidationReport.load(folder / "report")
    assert not report.success
    assert report.images == 12
    assert report.manifest_sha256 == Dataset.load(folder / "dataset").manifest_sha256
    assert {one.name: one.failing_ids for one in report.expectations if not one.success} == {
        "duplicates share a group": ["cell07", "cell08"],
        "unique images": ["cell07", "cell08"],
        "no constant image": ["cell03"],
        "foreground fraction": ["cell05"],
        "no empty mask": ["cell05"],
    }
    assert json.loads((folder / "report/run.json").read_text())["stage"] == "validate"


def test_the_page_shows_the_failing_images_and_reads_offline(broken: tuple[Path, str]) -> None:
    page = (broken[0] / "report/report.html").read_text()
    pictures = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="(\w+)"', page)
    assert sorted(pictures) == ["cell03", "cell05", "cell05", "cell07", "cell07", "cell08", "cell08"]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in page.replace("url(#", "")  # a chart's own parts
    assert "@import" not in page
    assert "Failed." in page


def test_a_sound_dataset_passes_warns_on_stderr_and_gives_the_same_bytes_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset(tmp_path, broken=False)
    params = ValidateParams(mean_foreground=(0.5, 0.8))  # 256 of 2304 pixels are foreground: 0.11
    result = validate(params, dataset=dataset, report=tmp_path / "report")
    assert result.success
    assert "validate: warning: mean foreground: expected: a mean foreground" in capsys.readouterr().err
    first = {name: (tmp_path / "report" / name).read_bytes() for name in ("report.html", "report.json")}
    assert b"Passed with 1" in first["report.html"]
    assert str(tmp_path).encode() not in first["report.html"] + first["report.json"]
    (tmp_path / "report/half-written.html").write_text("left over")
    validate(params, dataset=dataset, report=tmp_path / "report")
    assert {name: (tmp_path / "report" / name).read_bytes() for name in first} == first
    assert not (tmp_path / "report/half-written.html").exists()


def test_a_manifest_changed_by_hand_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, broken=False)
    table = pd.read_parquet(dataset / "manifest.parquet")
    table.iloc[1:].to_parquet(dataset / "manifest.parquet", index=False)
    with pytest.raises(UserError, match=r"manifest\.parquet: differs from what dataset\.json describes; run `segops"):
        validate(ValidateParams(), dataset=dataset, report=tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_missing_dataset_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.json: no such file"):
        validate(ValidateParams(), dataset=tmp_path / "nowhere", report=tmp_path / "report")
