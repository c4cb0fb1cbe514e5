"""suspects: what it refuses, and that a spoilt mask comes first in every list it writes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file

from segops.commands.suspects import suspects
from segops.contracts.model import WEIGHTS_FILE, FoldModel, TrainedModel
from segops.data.arrays import PreparedData
from segops.data.flat_files import MASKS
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.ingest import IngestParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.validate import validate
from tests.support.small_models import (
    brightness_params,
    brightness_program,
    candidate_params,
    save_candidate,
    small_program,
)
from tests.support.tiny_prepared import disc, name_pixels_anew

RUNTIME = RuntimeParams(threads=1, device="cpu")


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Bright discs, one training mask emptied, and a candidate each of whose folds finds what is bright."""
    root = tmp_path_factory.mktemp("spoilt")
    for number in range(20):
        image_HWC, mask_HW = disc((48, 48), 3, seed=number)
        for name, array in (("images", image_HWC), ("masks", mask_HW * 255)):
            (root / "source" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / "source" / name / f"i{number:02}.png")
    given = {"mask_values": {"0": "background", "255": "disc"}, "group_by": "image", "licence": "CC0-1.0"}
    params = IngestParams.model_validate({"source": str(root / "source"), "name": "discs", **given})
    ingest(params, dataset=root / "dataset", faults=root / "faults.csv")
    validate(ValidateParams(), dataset=root / "dataset", report=root / "validation")
    assignment = SplitParams(fractions=(0.6, 0.2, 0.2), folds=2)
    split(assignment, dataset=root / "dataset", report=root / "validation", split=root / "split")
    meta = prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared")
    program = brightness_program(64)
    save_candidate(
        root / "net",
        program,
        brightness_params(64),
        candidate="net",
        assignment_sha256=meta.assignment_sha256,
        test_sha256=meta.test_sha256,
    )
    weights = program.network.state_dict()
    save_file(
        {
            f"{prefix}{name}": value.clone()
            for prefix in ("", "folds.0.", "folds.1.")
            for name, value in weights.items()
        },
        root / "net" / WEIGHTS_FILE,
    )
    folds = [FoldModel(fold=fold, best_epoch=1, epochs=1) for fold in range(2)]
    changed = {"folds": folds, "weights_sha256": sha256_file(root / "net" / WEIGHTS_FILE)}
    TrainedModel.load(root / "net").model_copy(update=changed).save(root / "net")
    return root, _spoil(root / "prepared")


def _spoil(prepared: Path) -> str:
    """Empty the training mask with the most foreground; return its image's id."""
    data = PreparedData.open(prepared)
    row = max(data.rows("train"), key=lambda row: int((data.mask(row) > 0).sum()))
    image_id, begin, pixels = str(data.index["image_id"].iloc[row]), int(data.index["mask_offset"].iloc[row]), 48 * 48
    content = bytearray((prepared / MASKS).read_bytes())
    content[begin : begin + pixels] = bytes(pixels)
    (prepared / MASKS).write_bytes(content)
    name_pixels_anew(prepared)
    return image_id


def test_an_emptied_mask_comes_first_in_every_list(spoilt: tuple[Path, str]) -> None:
    root, image_id = spoilt
    result = suspects(
        RUNTIME, dataset=root / "dataset", prepared=root / "prepared", model=root / "net", report=root / "r"
    )
    data = PreparedData.open(root / "prepared")
    assert result.images == len(data.rows("train")) + len(data.rows("val"))
    images = pd.read_csv(root / "r/images.csv")
    assert images["image_id"][0] == image_id
    assert images["score"].is_monotonic_decreasing
    regions = pd.read_csv(root / "r/regions.csv")
    own = regions[regions["image_id"] == image_id]
    assert own["suggested"].tolist() == ["disc"]
    drawn = json.loads((root / f"r/qupath/{image_id}.geojson").read_text())["features"]
    assert len(drawn) == len(own) == images["regions"][0]
    assert (root / f"r/napari/{image_id}.csv").is_file()
    files = [image.attrib["name"] for image in ElementTree.parse(root / "r/cvat.xml").getroot().iter("image")]
    assert files[0] == images["source_image"][0]
    assert images["regions"][1:].sum() == 0, "the other discs are what their masks say"
    page = (root / "r/index.html").read_text()
    assert page.index(image_id) < page.index("The list")
    assert np.asarray(result.confident_joint).sum() <= result.images * 48 * 48


def test_a_candidate_without_folds_is_refused_with_the_param_to_set(tmp_path: Path, prepared: Path) -> None:
    save_candidate(tmp_path / "net", small_program(), candidate_params(), candidate="net")
    with pytest.raises(UserError, match=r"set candidates\.net\.cross_validation to scores or ensemble"):
        suspects(RUNTIME, dataset=tmp_path, prepared=prepared, model=tmp_path / "net", report=tmp_path / "r")
