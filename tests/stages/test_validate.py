"""The expectations on a manifest, the stage's report and its messages."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segops.contracts.dataset import Dataset
from segops.contracts.tables import MANIFEST_COLUMNS, read_table
from segops.contracts.validation import Expectation, ValidationReport
from segops.contracts.volumes import SPACING_COLUMNS
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.validate import validate
from segops.validation.checks import checks
from segops.validation.pixel_checks import MISPLACED, RELATED
from segops.validation.pixels import IN_PLACE, NONE, OWN, look
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
            "depth": 1,
            "height": SIDE_PX,
            "width": 64,
            **dict.fromkeys(SPACING_COLUMNS, math.nan),
            "channels": 1,
            "dtype": "uint8",
            "mask_height": SIDE_PX,
            "mask_width": 64,
            "image_sha256": f"{i:064x}",
            "mask_sha256": f"{i + 1000:064x}",
            "objects_sha256": f"{i + 2000:064x}",
            "foreground_fraction": 0.2,
            "ignored_fraction": 0.0,
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
    assert found["enough images"].detail == "expected: at least 10 images; seen: 8 images"


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
    """Twelve images with a bright L each; with `broken` a constant one, a duplicate and an empty mask."""
    random = np.random.default_rng(0)
    for i in range(12):
        image = random.integers(0, 60, (SIDE_PX, SIDE_PX), dtype=np.uint8)
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        top, left = 2 * (5 * i % 12) + 4, 2 * (7 * i % 12) + 4
        mask[top : top + 16, left : left + 6] = 255  # an L
        mask[top + 10 : top + 16, left + 6 : left + 16] = 255
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
        "no misplaced mask": ["cell07"],  # it has the pixels of cell08
    }
    assert json.loads((folder / "report/run.json").read_text())["stage"] == "validate"


def test_the_page_shows_the_failing_images_and_reads_offline(broken: tuple[Path, str]) -> None:
    page = (broken[0] / "report/report.html").read_text()
    pictures = re.findall(r'<figure><img src="data:image/jpeg;base64,[^"]+" alt="(\w+)"', page)
    twice = ["cell05", "cell07", "cell08"]
    assert sorted(pictures) == sorted(["cell03", *twice, *twice, "cell07", "cell07"])  # cell07 under two masks
    mosaic = re.findall(r'class="stack"><img src="data:image/jpeg;base64,[^"]+" alt="(\w+)"', page)
    assert sorted(mosaic) == [f"cell{number:02d}" for number in range(12)]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in page.replace("url(#", "")  # a chart's own parts
    assert "@import" not in page
    assert "Failed: duplicates share a group, no constant image." in page


def test_a_sound_dataset_passes_warns_on_stderr_and_gives_the_same_bytes_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset(tmp_path, broken=False)
    params = ValidateParams(mean_foreground=(0.5, 0.8))  # 156 of 2304 pixels are foreground: 0.07
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


def test_what_was_seen_is_said_in_words() -> None:
    manifest = good_manifest()
    manifest = manifest.assign(dtype=["uint16", *["uint8"] * 11], channels=[3, *[1] * 11], classes=["0", *["0 1"] * 11])
    found = outcomes(manifest)
    seen = {name: one.detail.partition("; seen: ")[2] for name, one in found.items()}
    assert seen["sample types"] == "uint8 (11 images), uint16 (1 image)"
    assert seen["channel counts"] == "1 (11 images), 3 (1 image)"
    assert seen["enough groups"] == "6 groups"
    assert seen["class background present"] == "in 12 of 12 images"
    assert seen["class nucleus present"] == "in 11 of 12 images"
    assert seen["heights"] == "so in all 12 images"
    alone = outcomes(manifest[:1], min_images=1)
    assert alone["enough images"].detail == "expected: at least 1 image; seen: 1 image"
    assert alone["heights"].detail.endswith("seen: so in the 1 image")
    assert alone["channel counts"].detail == "expected: 1 or 3 channels; seen: 3 (1 image)"


def misplaced(folder: Path, order: list[int], change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Path:
    """A dataset of twelve images in which image i has the changed mask of image `order[i]`."""
    write_pairs(folder / "raw", broken=False)
    masks = {path.name: path.read_bytes() for path in sorted((folder / "raw/masks").iterdir())}
    for name, source in zip(masks, order, strict=True):
        with Image.open(io.BytesIO(list(masks.values())[source])) as mask:
            Image.fromarray(change(np.asarray(mask))).save(folder / "raw/masks" / name)
    params = IngestParams(source=str(folder / "raw"), mask_values={0: "background", 255: "nucleus"}, group_by="image")
    ingest(params, dataset=folder / "dataset")
    return folder / "dataset"


def test_masks_shifted_by_a_file_are_critical_and_shown_beside_those_that_fit(tmp_path: Path) -> None:
    dataset = misplaced(tmp_path, [*range(1, 12), 0])
    with pytest.raises(UserError) as caught:
        validate(ValidateParams(), dataset=dataset, report=tmp_path / "report")
    assert str(caught.value).startswith(
        "validation failed: masks of their own images: 12 images: cell00 (the mask of cell11 fits better), "
        "cell01 (the mask of cell00 fits better), cell02 (the mask of cell01 fits better), ... (see "
    )
    found = {one.name: one for one in ValidationReport.load(tmp_path / "report").expectations}
    assert found["masks of their own images"].evidence["cell05"] == "the mask of cell04 fits better"
    assert found["masks of their own images"].detail.partition("; seen: ")[2] == (
        "otherwise in 12 of 12 compared images: cell00 (the mask of cell11 fits better), "
        "cell01 (the mask of cell00 fits better), cell02 (the mask of cell01 fits better), ..."
    )
    assert found["no misplaced mask"].success  # is said once
    page = (tmp_path / "report/report.html").read_text()
    assert "with the mask of cell11" in page
    validate(ValidateParams(max_misplaced_masks=1), dataset=dataset, report=tmp_path / "report")


def test_a_few_misplaced_masks_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = misplaced(tmp_path, [1, 0, *range(2, 12)])
    assert validate(ValidateParams(max_misplaced_masks=0.2), dataset=dataset, report=tmp_path / "report").success
    assert "no misplaced mask: 2 images: cell00 (the mask of cell01 fits better), cell01 (" in capsys.readouterr().err


def test_turned_moved_and_swapped_masks_are_found(tmp_path: Path) -> None:
    def failed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
        """Return the checks of masks that fail, with their first image."""
        dataset = misplaced(tmp_path / name, list(range(12)), change)
        manifest = read_table(dataset / "manifest.parquet", MANIFEST_COLUMNS)
        pixels = look(dataset, manifest, ValidateParams(), 2)
        assert pixels is not None
        return [
            f"{one.name}: {one.detail.partition('images: ')[2].partition(', ')[0]}"
            for _, one in run(manifest, ValidateParams(mean_foreground=(0, 1)), CLASSES, pixels.table)
            if not one.success and "mask" in one.name
        ]

    assert failed("as they are", np.asarray) == []
    assert failed("flipped", np.fliplr) == [
        "masks of their own images: cell00 (the own mask flipped left to right fits better)"
    ]
    assert "masks in place: cell00 (4 px right)" in failed("moved", lambda mask: np.roll(mask, 4, 1))
    swapped = "masks not swapped: cell00 (foreground around spots of background)"
    assert failed("swapped", lambda mask: 255 - mask) == [swapped]


def test_masks_that_say_nothing_about_their_images_are_a_warning(tmp_path: Path) -> None:
    dataset = misplaced(tmp_path, list(range(12)))
    manifest = read_table(dataset / "manifest.parquet", MANIFEST_COLUMNS)
    pixels = pd.DataFrame(
        {"image_id": manifest["image_id"], "mask_fit": 0.55, "fitting_mask": OWN, "mask_place": IN_PLACE, "swapped": 0}
        | {"relative": NONE}
    )
    found = {one.name: one for _, one in run(manifest, ValidateParams(), CLASSES, pixels)}
    assert [name for name, one in found.items() if not one.success] == ["masks fit"]
    assert found["masks fit"].severity == "warning"
    assert found["masks fit"].detail.endswith("seen: 0.550 in 12 compared images")


def test_few_images_or_none_to_compare_are_not_judged(tmp_path: Path) -> None:
    dataset = misplaced(tmp_path, list(range(12)))
    manifest = read_table(dataset / "manifest.parquet", MANIFEST_COLUMNS)
    assert look(dataset, manifest, ValidateParams(compared_images=0), 2) is None
    for rows, images in ((manifest, 4), (manifest.assign(classes="1"), 12), (manifest.assign(mask_width=1), 12)):
        pixels = look(dataset, rows, ValidateParams(compared_images=images), 2)
        assert pixels is not None
        names = {check.name for check, _ in run(manifest, ValidateParams(), CLASSES, pixels.table)}
        assert RELATED in names
        assert MISPLACED not in names


def test_related_images_of_different_groups_are_a_warning_with_both_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "raw", broken=False)
    for kind in ("images", "masks"):  # a copy, flipped and brighter
        with Image.open(tmp_path / "raw" / kind / "cell04.png") as picture:
            flipped = np.fliplr(np.asarray(picture))
        copy = flipped // 2 + 60 if kind == "images" else flipped
        Image.fromarray(copy.astype(np.uint8)).save(tmp_path / "raw" / kind / "cell11.png")
    params = IngestParams(source=str(tmp_path / "raw"), mask_values={0: "background", 255: "nucleus"}, group_by="image")
    ingest(params, dataset=tmp_path / "dataset")
    report = validate(ValidateParams(), dataset=tmp_path / "dataset", report=tmp_path / "report")
    (found,) = [one for one in report.expectations if not one.success]
    assert (found.name, found.severity, found.failing_ids) == (RELATED, "warning", ["cell04", "cell11"])
    assert re.fullmatch(r"near-duplicate cell04: correlation \S+, flipped left to right", found.evidence["cell11"])
    assert "2 images: cell04 (near-duplicate cell11: correlation" in capsys.readouterr().err
    page = (tmp_path / "report/report.html").read_text()
    pictures = re.findall(r'<figure><img src="data:image/jpeg;base64,[^"]+" alt="(\w+)"', page)
    assert pictures == ["cell04", "cell11", "cell11", "cell04"]
    together = IngestParams(**{**params.model_dump(), "group_by": "pattern", "group_pattern": "^(cell)"})
    ingest(together, dataset=tmp_path / "dataset")
    manifest = read_table(tmp_path / "dataset/manifest.parquet", MANIFEST_COLUMNS)
    pixels = look(tmp_path / "dataset", manifest, ValidateParams(), 2)
    assert pixels is not None
    assert set(pixels.table["relative"]) == {"none"}


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
