"""`segops init`: what it writes loads, pairs and ingests with no edit, on sets that lie on a disk as public ones do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from segops.cli.main import app
from segops.commands.init import InitRequest, dataset_name, init
from segops.contracts.dataset import Dataset
from segops.errors import UserError
from segops.params.project import Params, load_params
from segops.planning.decisions import Budget
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.validate import validate
from tests.support.factories import make_cells, make_pairs, write_image
from tests.support.public_sets import SETS, write_set

BUDGET = Budget(minutes=1, memory_gib=4, threads=2, gflops_a_second=40)
BINARY = {0: "background", 255: "foreground"}

# By set: params of ingest that differ from the defaults, groups, and the input of the candidates.
EXPECTED: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "nuclei": (
        {"mask_values": {0: "background", 255: "nucleus"}, "group_pattern": r"^(patient\d+)"},
        4,
        {"channels": 1},
    ),
    "vessels": (
        {
            "images": "training/images/*_training.tif",
            "masks": "training/1st_manual/*_manual1.png",
            "mask_values": {0: "background", 255: "vessel"},
        },
        12,
        {"channels": 3},
    ),
    "spots": ({"images": "img", "masks": "labels", "mask_kind": "objects"}, 12, {"channels": 1}),
    "rings": (
        {"masks": "annotations", "mask_values": {0: "background", 1: "class_1", 2: "class_2"}},
        12,
        {"channels": 1, "size": (64, 64)},
    ),
    "sixteen_bits": (
        {"images": "raw", "masks": "gt", "mask_values": {0: "background", 1: "foreground"}},
        12,
        {"channels": 1},
    ),
    "tiny": ({"images": "*.png", "masks": "*_mask.png", "mask_values": BINARY}, 12, {"size": (32, 32)}),
    "large": ({"mask_values": BINARY}, 12, {"resize": "none", "size": (256, 256)}),
    "by_object": ({"layout": "dsb2018", "mask_values": BINARY}, 12, {"channels": 1}),
    "nnunet": (
        {
            "images": "imagesTr",
            "masks": "labelsTr",
            "stack": ["_0000", "_0001"],
            "mask_values": {0: "background", 1: "oedema", 2: "core"},
        },
        12,
        {"channels": 2},
    ),
    "lesions": ({"images": "*.jpg", "masks": "*_segmentation.png"}, 12, {"channels": 3, "resize": "pad"}),
    "csv_table": ({"layout": "csv", "table": "table.csv"}, 6, {"channels": 1}),
    "bids": (
        {"layout": "bids", "masks": "seg-axon", "mask_values": {0: "background", 255: "axon"}},
        6,
        {"channels": 1},
    ),
    "jpeg_masks": (
        {"images": "*/images/*.png", "masks": "*/masks/*.jpg", "stray_values": "nearest"},
        12,
        {"channels": 3},
    ),
    "eyes": ({"images": "*.jpg", "masks": "*_1stHO.png", "group_by": "pattern"}, 6, {"channels": 3}),
    "hounsfield": ({"images": "*/*.tif", "masks": "*/*_seg.png", "group_by": "layout"}, 4, {"channels": 1}),
    "lungs": (
        {
            "images": "CXR_png",
            "masks": "ManualMask/{class}/*.png",
            "mask_kind": "one_file_per_class",
            "mask_values": {0: "background", 1: "leftMask", 2: "rightMask"},
            "unpaired": "skip",
        },
        11,
        {"channels": 1},
    ),
    "fundus": (
        {"images": "*.png", "masks": "*_{class}.png", "mask_values": {0: "background", 1: "artery", 2: "vein"}},
        12,
        {"channels": 3},
    ),
    "coloured": (
        {
            "masks": "SegmentationClass",
            "mask_values": {"#000000": "background", "#008000": "class_1", "#ff0000": "class_2"},
        },
        12,
        {"channels": 3},
    ),
    "coco": (
        {"layout": "coco", "table": "annotations.json", "mask_values": {0: "background", 1: "debris", 2: "mitosis"}},
        12,
        {"channels": 1},
    ),
    "labelme": (
        {"images": "*.png", "masks": "*.json", "mask_values": {0: "background", 1: "gland"}},
        12,
        {"channels": 1},
    ),
    "run_lengths": ({"layout": "run_lengths", "table": "train.csv", "images": "train"}, 12, {"channels": 1}),
}


def written(source: str, folder: Path, **changes: Any) -> Params:
    """The params that init writes for a source."""
    out = folder / "params.yaml"
    init(InitRequest(source, out, BUDGET, **changes))
    return load_params(out)


def read(params: Params, folder: Path) -> Dataset:
    """Ingest as the params say."""
    return ingest(params.ingest, dataset=folder / "dataset")


def refusal(source: str, folder: Path, **changes: Any) -> str:
    """The error of init, after checking that nothing was written."""
    with pytest.raises(UserError) as error:
        written(source, folder, **changes)
    assert not (folder / "params.yaml").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_set_has_its_expectation() -> None:
    assert EXPECTED.keys() == SETS.keys()


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_ingested_with_no_edit(name: str, tmp_path: Path) -> None:
    count = 4 if name == "large" else 12
    params = written(write_set(name, tmp_path, count), tmp_path)
    of_ingest, groups, of_input = EXPECTED[name]
    assert {param: getattr(params.ingest, param) for param in of_ingest} == of_ingest
    for network in ("resunet", "unet"):
        assert {param: getattr(params.candidates[network].input, param) for param in of_input} == of_input
    assert ("otsu" in params.candidates) == (len(params.ingest.classes) == 2)
    dataset = read(params, tmp_path)
    assert dataset.images == count - (name == "lungs")
    assert dataset.groups == min(count, groups)
    assert sorted(map(int, dataset.channels)) == params.validate_.channels
    assert list(dataset.dtypes) == params.validate_.dtypes
    lines = (tmp_path / "params.yaml").read_text().splitlines()
    assert 35 <= len(lines) <= 65


@pytest.mark.parametrize("name", ["nuclei", "hounsfield"])
def test_what_it_writes_passes_validation_and_splits(name: str, tmp_path: Path) -> None:
    params = written(write_set(name, tmp_path, 30), tmp_path)
    dataset, report = tmp_path / "dataset", tmp_path / "validation"
    read(params, tmp_path)
    assert validate(params.validate_, dataset=dataset, report=report).success
    result = split(params.split, dataset=dataset, report=report, split=tmp_path / "split")
    said = re.search(
        r"seed: \d+  # groups of train, val, test: (\d+), (\d+), (\d+)", (tmp_path / "params.yaml").read_text()
    )
    assert said is not None
    assert [part.groups for part in result.subsets.values()] == [int(count) for count in said.groups()]
    assert prepare(dataset=dataset, split=tmp_path / "split", prepared=tmp_path / "prepared").images == 30


def test_the_same_source_gives_the_same_file(tmp_path: Path) -> None:
    source = write_set("rings", tmp_path)
    texts = []
    for _ in range(2):
        written(source, tmp_path, force=True)
        texts.append((tmp_path / "params.yaml").read_text())
    assert texts[0] == texts[1]


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    source, out = str(make_pairs(tmp_path / "cells", 6)), tmp_path / "params.yaml"
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already; pass --force to replace it, or --out for another file"):
        init(InitRequest(source, out, BUDGET))
    assert out.read_text() == "mine"
    assert written(source, tmp_path, force=True).ingest.source == source


def test_licence_and_model_name_are_the_sources_own(tmp_path: Path) -> None:
    params = written(str(make_pairs(tmp_path / "My Cells (2)", 6)), tmp_path)
    assert params.ingest.licence == "unknown"
    assert params.ingest.name == "my-cells-2"
    assert params.tracking.model_name == "my-cells-2-segmentation"
    assert "licence: unknown  # not sure: state it" in (tmp_path / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/cells.tar.gz", "cells"),
        ("s3://bucket/Deep_Folder/", "deep-folder"),
        ("https://x.org/a%20b.zip?token=1", "a-20b"),
        ("dvc://repo@v1#data/raw", "raw"),
        ("synthetic://nuclei?n=4", "nuclei"),
        ("cells/list.csv", "list"),
    ],
)
def test_a_dataset_is_called_by_its_sources_last_part(source: str, name: str) -> None:
    assert dataset_name(source) == name


def test_a_table_is_a_source_too(tmp_path: Path) -> None:
    source = write_set("csv_table", tmp_path)
    params = written(f"{source}/table.csv", tmp_path)
    assert (params.ingest.source, params.ingest.layout, params.ingest.table) == (source, "csv", "table.csv")
    assert read(params, tmp_path).groups == 6


def test_an_archives_hash_is_kept_and_a_pixel_size_is_said(tmp_path: Path) -> None:
    params = written(write_set("by_object", tmp_path, 6), tmp_path)
    assert params.ingest.sha256 is not None
    written(write_set("bids", tmp_path, 6), tmp_path, force=True)
    assert "pixels of 0.1 um" in (tmp_path / "params.yaml").read_text()


def test_a_source_without_masks_or_of_one_value_is_refused(tmp_path: Path) -> None:
    make_pairs(tmp_path / "alone", 3)
    for mask in (tmp_path / "alone/masks").iterdir():
        mask.unlink()
    assert "no layout pairs images with masks" in refusal(str(tmp_path / "alone"), tmp_path)
    for path in (make_pairs(tmp_path / "flat", 3) / "masks").iterdir():
        write_image(path, np.zeros((32, 32), np.uint8))
    assert "holds the value 0 alone" in refusal(str(tmp_path / "flat"), tmp_path)
    assert "no such file or folder" in refusal(str(tmp_path / "nothing"), tmp_path)


def test_the_wizard_asks_about_doubts_alone(tmp_path: Path) -> None:
    answers = {"What is 128": "rim", "What is 255": "core", "licence": "CC-BY-4.0", "regular expression": r"^(\d\d)"}
    asked: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next((answer for part, answer in answers.items() if part in question), default)

    params = written(str(make_cells(tmp_path / "cells", 12)), tmp_path, ask=ask)
    assert params.ingest.mask_values == {0: "background", 128: "rim", 255: "core"}
    assert params.ingest.licence == "CC-BY-4.0"
    assert params.ingest.group_pattern == r"^(\d\d)"
    assert not any("layout" in question or "input" in question for question in asked)
    assert read(params, tmp_path).groups == 2


def test_the_wizard_takes_globs_where_nothing_pairs(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "odd").mkdir(exist_ok=True)
        source = make_pairs(tmp_path / "cells", 4)
        (source / f"images/00{number}.png").rename(tmp_path / f"odd/00{number}_x.png")
        (source / f"masks/00{number}.png").rename(tmp_path / f"odd/q{number}_00{number}.png")
    answers = {"of the images": "*_x.png", "of the masks": "q[0-9]_*.png"}
    with pytest.raises(UserError, match="no layout pairs"):
        written(str(tmp_path / "odd"), tmp_path)

    def ask(question: str, default: str) -> str:
        return next((answer for part, answer in answers.items() if part in question), default)

    with pytest.raises(UserError, match="without mask"):  # 0/000 isn't 000
        written(str(tmp_path / "odd"), tmp_path, ask=ask)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [("(", "no regular expression"), ("^(zz)", "finds no group"), ("^0", "no regular expression with a group")],
)
def test_a_wrong_answer_is_one_line(answer: str, complaint: str, tmp_path: Path) -> None:
    def ask(question: str, default: str) -> str:
        return answer if "regular expression" in question else default

    assert complaint in refusal(str(make_pairs(tmp_path / "cells", 4)), tmp_path, ask=ask)


def test_an_answer_that_a_param_cant_have_is_one_line(tmp_path: Path) -> None:
    def ask(question: str, default: str) -> str:
        return "half" if "fractions" in question else default

    assert "split.fractions: 'half'" in refusal(str(make_pairs(tmp_path / "cells", 6)), tmp_path, ask=ask)


def test_the_command_prints_each_assumption_and_the_wizard_reads_the_terminal(tmp_path: Path) -> None:
    source, out = str(make_pairs(tmp_path / "cells", 12, 64)), tmp_path / "mine.yaml"
    arguments = ["init", source, "--out", str(out), "--minutes", "1", "--wizard"]
    done = CliRunner().invoke(app, arguments, input="image\nCC0-1.0\n\n\n")
    assert done.exit_code == 0, done.output
    assert "ingest.layout: pairs  (folders images and masks hold files of the same names)" in done.output
    assert "0 of them not sure" in done.output
    assert yaml.safe_load(out.read_text())["ingest"]["licence"] == "CC0-1.0"


@pytest.mark.slow
def test_the_axon_archive_is_ingested_with_no_edit(tmp_path: Path, axon_sem_zip: Path) -> None:
    params = written(str(axon_sem_zip), tmp_path)
    assert params.ingest.masks == "seg-axonmyelin-manual"
    assert params.ingest.mask_values == {0: "background", 127: "class_1", 255: "class_2"}
    assert params.candidates["resunet"].input.resize == "none"
    dataset = read(params, tmp_path)
    assert (dataset.images, dataset.groups) == (10, 8)


@pytest.mark.slow
def test_the_data_science_bowl_is_ingested_with_no_edit(tmp_path: Path, dsb2018_zip: Path) -> None:
    params = written(str(dsb2018_zip), tmp_path)
    assert (params.ingest.layout, params.ingest.group_by) == ("dsb2018", "fields")
    assert read(params, tmp_path).images >= 570
