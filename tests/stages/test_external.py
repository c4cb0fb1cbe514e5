"""A program of another package as a candidate: scored and compared as any other, and never registered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from segops.comparison.entrants import read_entrant
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.files import sha256_file
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.stages.evaluate import evaluate
from segops.stages.register import register
from segops.stages.train import train
from tests.support.judged_candidates import folders
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

RUNTIME = RuntimeParams(threads=1, device="cpu")
BRIGHT = """
import sys
import numpy as np
import tifffile
print("a package that talks")
for line in sys.stdin:
    source, target = line.rstrip("\\n").split("\\t")
    image = tifffile.imread(source)
    assert image.dtype == np.uint16
    MASK
    print("done", flush=True)
"""
OBJECTS = "tifffile.imwrite(target, 7 * (image.mean(axis=-1) > 0.45 * 65535).astype(np.int32))"


def script(folder: Path, mask: str = OBJECTS) -> list[str]:
    """Write a command that thresholds the mean of the channels and numbers its only object 7."""
    path = folder / "bright.py"
    path.write_text(BRIGHT.replace("MASK", mask))
    return [sys.executable, str(path)]


def params(command: list[str], **given: Any) -> CandidateParams:
    model = {"architecture": "external", "command": command, "version": "bright 1.0", "licence": "MIT", **given}
    inference = {"postprocess": {"threshold": 0.5}}
    return CandidateParams.model_validate({"model": model, "input": {"resize": "none"}, "inference": inference})


@pytest.mark.usefixtures("file_store")
def test_an_external_program_is_scored_and_compared_and_has_no_version(tmp_path: Path, prepared: Path) -> None:
    places, tracking = folders(tmp_path), own_names()
    model, report = places.models / "bright", places.reports / "bright"
    trained = train("bright", params(script(tmp_path)), RUNTIME, tracking, prepared=prepared, model=model)
    assert (trained.epochs, trained.parameters, trained.rule, trained.threshold) == (0, 0, "fixed", 0.5)
    judged = evaluate(EvaluateParams(gallery_images=1), RUNTIME, prepared=prepared, model=model, report=report)
    assert judged.test.dice.mean == 1  # discs are above 180, the ground below 80
    assert "shown: it is flat on all of these images" in (report / "gallery.html").read_text()
    data = PreparedData.open(prepared)
    row = data.rows("test")[0]
    np.testing.assert_array_equal(Predictor.load(model).mask(data.image(row)), data.mask(row))

    result = register(RegisterParams(), tracking, model=model, report=report)
    assert (result.registered, result.version) == (False, None)
    assert result.reason == "an external program is compared, not registered: a version of it would have nothing to run"
    entrant = read_entrant("bright", report, model)
    assert entrant.gflops is None
    assert entrant.trained.params["model"]["version"] == "bright 1.0"


HALVES = """object_HW = image.mean(axis=-1) > 0.45 * 65535
    upper = np.argwhere(object_HW)[:, 0].mean() > np.arange(len(image))[:, None]
    tifffile.imwrite(target, np.where(object_HW, np.where(upper, 900000, -3), 0).astype(np.int32))"""


def test_objects_that_a_program_numbers_are_scored_as_they_are(tmp_path: Path, prepared: Path) -> None:
    model = tmp_path / "model"
    halves = params(script(tmp_path, HALVES)).model_dump(mode="json")
    halves["inference"]["instances"]["method"] = "own"
    train("halves", CandidateParams.model_validate(halves), RUNTIME, own_names(), prepared=prepared, model=model)
    judged = evaluate(EvaluateParams(gallery_images=1), RUNTIME, prepared=prepared, model=model, report=tmp_path / "r")
    assert judged.test.dice.mean == 1
    objects = judged.test.instances
    assert objects is not None
    assert (objects.objects, objects.predicted, objects.splits) == (2, 4, 2), "touching halves are two objects a disc"
    data, predictor = PreparedData.open(prepared), Predictor.load(model)
    image, mask_HW = (get(data.rows("test")[0]) for get in (data.image, data.mask))
    objects_HW = predictor.objects(mask_HW, predictor.maps(image))
    assert objects_HW is not None
    assert np.unique(objects_HW).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(objects_HW > 0, mask_HW > 0)


def test_own_objects_are_of_an_external_program_alone_and_nothing_changes_them() -> None:
    own = {"instances": {"method": "own"}}
    with pytest.raises(ValidationError, match="method own is of external programs"):
        CandidateParams.model_validate({"model": {"architecture": "unet"}, "inference": own})
    given = params(["segment"]).model_dump(mode="json")
    given["inference"] = {**own, "postprocess": {"threshold": 0.5, "open_px": 1}}
    with pytest.raises(ValidationError, match="takes objects as they are"):
        CandidateParams.model_validate(given)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("raise SystemExit('no such model')", r"ended with exit code 1: no such model"),
        ("pass", r"said done, but left no readable mask"),
        (
            "tifffile.imwrite(target, np.zeros((3, 4), np.uint8))",
            r"a mask is uint8 of \[3, 4\]; it must be integers of",
        ),
        ("tifffile.imwrite(target, np.zeros(image.shape[:2], np.float32))", r"a mask is float32 of"),
        ("import time; time.sleep(60)", r"no answer in 0.5 s; raise model.timeout_s"),
    ],
)
def test_what_goes_wrong_in_it_is_a_line(tmp_path: Path, prepared: Path, mask: str, message: str) -> None:
    timeout = {"timeout_s": 0.5} if "sleep" in mask else {}
    with pytest.raises(UserError, match=message):
        train(
            "bright",
            params(script(tmp_path, mask), **timeout),
            RUNTIME,
            own_names(),
            prepared=prepared,
            model=tmp_path / "m",
        )


def test_a_command_that_is_not_there_is_a_line(tmp_path: Path, prepared: Path) -> None:
    with pytest.raises(UserError, match=r"external command /no/such: can't be started \(No such file"):
        train("bright", params(["/no/such"]), RUNTIME, own_names(), prepared=prepared, model=tmp_path / "m")


def test_other_weights_than_the_params_name_are_refused(tmp_path: Path, prepared: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"some")
    named = {"weights": {"path": str(weights), "sha256": sha256_file(weights)}}
    command = script(tmp_path)
    train("bright", params(command, **named), RUNTIME, own_names(), prepared=prepared, model=tmp_path / "m")
    weights.write_bytes(b"other")
    with pytest.raises(UserError, match=r"not the model.weights.sha256 of params"):
        train("bright", params(command, **named), RUNTIME, own_names(), prepared=prepared, model=tmp_path / "n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": {"size": 64}}, "external sees whole native images: set input.resize none"),
        ({"inference": {}}, "external gives masks: set inference.postprocess.threshold to 0.5"),
        ({"recipe": {"epochs": 2}}, "external trains nothing; leave recipe"),
    ],
)
def test_what_does_not_go_with_masks_is_refused(given: dict[str, Any], message: str) -> None:
    whole = params(["program"]).model_dump() | given
    if "recipe" not in given:
        del whole["recipe"]
    with pytest.raises(ValidationError, match=message):
        CandidateParams.model_validate(whole)
