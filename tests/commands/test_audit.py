"""audit: which test images have a relative in training, by kind, and what that is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from segops.commands.audit import audit, relatives_table, summary
from segops.contracts.audit import Audit
from segops.contracts.tables import MANIFEST_COLUMNS, read_table
from segops.data.relatives import KINDS, Relative
from segops.errors import UserError
from segops.params.project import Params
from segops.stages.ingest import ingest
from tests.cli.test_cli import _segops
from tests.support.factories import ingest_params, write_image
from tests.support.small_models import candidate_params

pytest_plugins = ["tests.support.mlflow_stores"]

PIXELS = 96


def texture(seed: int) -> np.ndarray:
    """Smooth structures with a little noise, twice as large as an image."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(2 * PIXELS, 2 * PIXELS)), 3)
    return np.asarray(np.clip(128 + 500 * smooth + random.normal(0, 2, smooth.shape), 0, 255), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/dataset of images with known relatives, each a group of its own but two."""
    folder = tmp_path_factory.mktemp("audit")
    images = {f"free{chr(97 + number)}": texture(number)[:PIXELS, :PIXELS] for number in range(24)}
    field = texture(50)
    images |= {"left": field[:PIXELS, :PIXELS], "right": field[:PIXELS, PIXELS:]}
    field = texture(51)
    images |= {"over": field[:PIXELS, :PIXELS], "under": field[40 : 40 + PIXELS, 20 : 20 + PIXELS]}
    images |= {"original": texture(52)[:PIXELS, :PIXELS]}
    images |= {"copy": images["original"], "turned": np.rot90(images["original"])}
    for name, image in images.items():
        group = "patient" if name in ("freea", "freeb") else name
        write_image(folder / "raw/images" / group / f"{name}.png", image[..., None])
        write_image(folder / "raw/masks" / group / f"{name}.png", (image > 140).astype(np.uint8) * 255)
    ingest(ingest_params(folder / "raw"), dataset=folder / "data/dataset")
    return folder


def name_of(folder: Path) -> dict[str, str]:
    """The dataset's image ids by the names of their files."""
    manifest = read_table(folder / "data/dataset/manifest.parquet", MANIFEST_COLUMNS)
    return {
        Path(source).stem: name for name, source in zip(manifest["image_id"], manifest["source_image"], strict=True)
    }


def write_split(folder: Path, file: str, **subsets: str) -> Path:
    """A CSV of all images: those named are in the given subsets, the others in train."""
    ids = name_of(folder)
    rows = [{"image_id": image_id, "subset": subsets.get(name, "train")} for name, image_id in ids.items()]
    pd.DataFrame(rows).to_csv(folder / file, index=False)
    return folder / file


def audited(
    folder: Path, split: Path, report: str, worth: tuple[str, Params] | None = None
) -> tuple[Audit, pd.DataFrame]:
    result = audit(dataset=folder / "data/dataset", split=split, report=folder / report, worth=worth)
    return result, pd.read_csv(folder / report / "relatives.csv")


def test_each_kind_of_relative_is_listed_with_its_training_image(folder: Path) -> None:
    ids = name_of(folder)
    tests = dict.fromkeys(("freea", "left", "over", "copy", "turned", "freec"), "test")
    split = write_split(folder, "split.csv", **tests, freed="val")
    result, table = audited(folder, split, "found")
    expected = {
        ("freea", "same group", "freeb"),
        ("left", "adjacent tile", "right"),
        ("over", "overlapping tile", "under"),
        ("copy", "duplicate", "original"),
        ("turned", "near-duplicate", "original"),
    }
    files = {image_id: name for name, image_id in ids.items()}
    rows = table.astype(str).to_dict("records")
    assert {(files[row["image_id"]], row["kind"], files[row["relative_id"]]) for row in rows} == expected
    assert (result.train_images, result.test_images, result.leaking_images) == (24, 6, 5)
    assert result.by_kind == dict.fromkeys(KINDS, 1) | {"neighbouring slice or frame": 0}
    assert result == Audit.load(folder / "found")
    assert summary(result) == (
        "5 of 6 test images have a relative in training (same group 1, duplicate 1, near-duplicate 1, overlapping tile "
        "1, adjacent tile 1)"
    )
    page = (folder / "found/index.html").read_text()
    assert "5 of 6 test images" in page
    assert page.count("<img src=") == 10
    assert "<script" not in page
    assert str(folder) not in page
    first = {file.name: file.read_bytes() for file in (folder / "found").iterdir() if file.name != "run.json"}
    audited(folder, split, "found")
    assert {name: (folder / "found" / name).read_bytes() for name in first} == first


def test_a_split_without_leaks_says_so_and_relatives_in_val_dont_count(folder: Path) -> None:
    split = write_split(folder, "clean.csv", freec="test", freee="Testing", left="test", right="validation")
    result, table = audited(folder, split, "none")
    assert result.leaking_images == 0
    assert len(table) == 0
    assert summary(result) == "none of 3 test images has a relative in training"
    assert "Nothing to do: no relative found." in (folder / "none/index.html").read_text()


def test_the_exit_code_says_whether_there_are_leaks(folder: Path) -> None:
    leaky = _segops("audit", "--split", str(write_split(folder, "leaky.csv", left="test")), cwd=folder)
    assert leaky.returncode == 6, leaky.stderr
    assert leaky.stdout == "reports/audit: 1 of 1 test image has a relative in training (adjacent tile 1)\n"
    clean = _segops("audit", "--split", str(write_split(folder, "clean.csv", freec="test")), cwd=folder)
    assert (clean.returncode, clean.stdout) == (0, "reports/audit: none of 1 test image has a relative in training\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,subset\na,train\n", r"no column image_id; it needs image_id and subset, a row an image"),
        ("image_id,subset\nfreec,holdout\n", r"subset 'holdout' is none of train, val, test"),
        ("image_id,subset\nA,train\nB,test\n", r"2 of its 2 images aren't in the dataset \(A, B; the dataset has "),
        ("image_id,subset\nA,train\nA,test\n", r"image 'A' has two rows; keep one"),
        ("", r"not a readable CSV or parquet table"),
    ],
)
def test_a_split_that_isnt_one_is_refused_in_a_line(folder: Path, content: str, message: str) -> None:
    (folder / "wrong.csv").write_text(content)
    with pytest.raises(UserError, match=r"wrong\.csv: " + message):
        audited(folder, folder / "wrong.csv", "refused")
    assert not (folder / "refused").exists()


def test_a_missing_split_and_one_without_test_images_are_refused(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"split\.parquet: no such file; run `segops split`, or name a table with --split"
    ):
        audited(folder, folder / "data/split/split.parquet", "refused")
    with pytest.raises(UserError, match=r"all\.csv: no image is in test; nothing to compare"):
        audited(folder, write_split(folder, "all.csv"), "refused")


def test_the_closest_relative_of_a_kind_stands_for_all() -> None:
    rows = pd.DataFrame({"image_id": ["a", "b", "c"], "group_id": ["g", "h", "i"]})
    found = [
        Relative("a", "b", "near-duplicate", "correlation 0.90", 0.9),
        Relative("a", "c", "near-duplicate", "correlation 0.95", 0.95),
        Relative("a", "c", "near-duplicate", "correlation 0.95", 0.95),
    ]
    (row,) = relatives_table(found, rows).to_dict("records")
    assert row == {
        "image_id": "a",
        "group_id": "g",
        "kind": "near-duplicate",
        "relative_id": "c",
        "evidence": "correlation 0.95",
        "relatives": 2,
    }
    assert len(relatives_table([], rows)) == 0


def test_the_worth_of_a_leak_is_a_paired_interval_of_two_trainings(folder: Path, file_store: Path) -> None:
    tests = dict.fromkeys(("left", "over", "copy", "freec"), "test")
    split = write_split(folder, "worth.csv", **tests, freed="val", freee="val")
    candidate = candidate_params(size=32, outputs="sigmoid")
    recipe = candidate.recipe.model_copy(update={"epochs": 1, "batch_size": 4})
    params = Params.model_validate(
        {
            "ingest": {"source": "x", "licence": "unknown"},
            "tracking": {"model_name": "small"},
            "runtime": {"threads": 1, "device": "cpu", "checkpoint_root": str(folder / "checkpoints")},
            "candidates": {"small": candidate.model_copy(update={"recipe": recipe}).model_dump()},
        }
    )
    result, _ = audited(folder, split, "worth", ("small", params))
    assert result.worth is not None
    related = 3  # right, under, original; turned is a relative of copy too
    assert result.worth.training_images == 31 - 4 - 2 - related - 1
    assert result.worth.test_images == 4
    assert result.worth.inflation.mean == pytest.approx(result.worth.leaky_dice - result.worth.clean_dice)
    assert result.worth.inflation.groups == 4
    assert result.worth.with_relatives is not None
    assert result.worth.with_relatives.groups == 3
    assert result.worth.without_relatives is not None
    assert result.worth.without_relatives.groups == 1  # freec
    assert "Dice inflation" in summary(result)
    page = " ".join((folder / "worth/index.html").read_text().split())
    assert "What it is worth: small (32x32 px, 1 epoch) scores Dice" in page
    with pytest.raises(UserError, match=r"there is no leak to measure; leave out --worth"):
        audited(folder, write_split(folder, "clean2.csv", freec="test", freed="val"), "w", ("small", params))
    with pytest.raises(UserError, match=r"has no candidate 'huge'"):
        audited(folder, split, "w", ("huge", params))
