"""A candidate that trains nothing, Otsu's threshold, is scored, registered and used as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from skimage.filters import threshold_otsu

from segops.comparison.entrants import read_entrant
from segops.data.arrays import PreparedData
from segops.inference.predict import Predictor
from segops.inference.trained import build_program
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.register import Floors, RegisterParams
from segops.params.runtime import RuntimeParams
from segops.stages.evaluate import evaluate
from segops.stages.register import register
from segops.stages.train import train
from segops.tracking import registry, store
from tests.support.judged_candidates import folders
from tests.support.mlflow_server import own_names
from tests.support.tiny_prepared import write_prepared

pytest_plugins = ["tests.support.mlflow_stores"]

OTSU = {
    "model": {"architecture": "intensity"},
    "input": {"resize": "none", "channels": 1},
    "inference": {"postprocess": {"threshold": "otsu"}, "instances": {"method": "watershed"}},
}
RUNTIME = RuntimeParams(threads=1, device="cpu")


@pytest.mark.usefixtures("file_store")
def test_otsu_goes_through_the_graph_and_its_version_gives_the_same_masks(tmp_path: Path, prepared: Path) -> None:
    places, tracking = folders(tmp_path), own_names()
    model, report = places.models / "otsu", places.reports / "otsu"
    trained = train("otsu", CandidateParams.model_validate(OTSU), RUNTIME, tracking, prepared=prepared, model=model)
    assert (trained.parameters, trained.epochs, trained.rule, trained.threshold) == (0, 0, "otsu", None)
    judged = evaluate(EvaluateParams(gallery_images=1), RUNTIME, prepared=prepared, model=model, report=report)
    assert judged.test.dice.mean > 0.99  # bright discs on a dark ground
    assert judged.test.instances is not None
    assert "GradCAM isn't shown: it is the map of the same network with random" in (report / "gallery.html").read_text()

    data, predictor = PreparedData.open(prepared), Predictor.load(model)
    for row in data.rows("test"):
        grey_HW = data.image(row).astype(np.float64) @ [0.299, 0.587, 0.114]
        own_HW = grey_HW > threshold_otsu(grey_HW)
        assert (own_HW != predictor.mask(data.image(row))).mean() < 0.01  # one bin of 256, at most

    registered = register(RegisterParams(floors=Floors(dice=0.5, iou=0.3)), tracking, model=model, report=report)
    assert registered.version == 1
    fetched = registry.fetch_model(tracking, "1", tmp_path / "fetched")
    image = data.image(data.rows("val")[0])
    np.testing.assert_array_equal(Predictor.load(fetched).mask(image), predictor.mask(image))
    other = CandidateParams.model_validate(OTSU | {"model": {"architecture": "intensity", "foreground": "bright"}})
    again = train("otsu", other, RUNTIME, tracking, prepared=prepared, model=tmp_path / "other")
    assert again.weights_sha256 != trained.weights_sha256, "the registry tells versions apart by their weights"
    served = store.import_mlflow().pyfunc.load_model(f"models:/{tracking.model_name}/1")
    probability = served.predict(np.random.default_rng(0).random((1, 1, 40, 52), dtype=np.float32))
    assert probability.shape == (1, 1, 40, 52)
    assert read_entrant("otsu", report, model).gflops == 0


@pytest.mark.parametrize(("classes", "message"), [(3, "foreground from background alone")])
def test_several_classes_need_a_network(tmp_path: Path, classes: int, message: str) -> None:
    prepared = write_prepared(tmp_path / "prepared", classes=classes)
    with pytest.raises(ValueError, match=message):
        train(
            "otsu",
            CandidateParams.model_validate(OTSU),
            RUNTIME,
            own_names(),
            prepared=prepared,
            model=tmp_path / "model",
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": {"epochs": 3}}, "intensity trains nothing; leave recipe, objects and outputs out"),
        ({"cross_validation": "scores"}, "intensity trains nothing; set cross_validation to none"),
        ({"members": [{"model": {"architecture": "unet"}, "input": {"channels": 1}}]}, "no members and no tta"),
        ({"input": {"channels": 1}}, "intensity sees whole native images: set input.resize none"),
    ],
)
def test_what_would_be_ignored_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CandidateParams.model_validate(OTSU | given)


def test_objects_darker_than_the_ground_are_found_too() -> None:
    from torch import tensor

    from segops.models.intensity import Intensity

    dark = tensor([[[[0.9, 0.9], [0.9, 0.1]]]])
    found = {kind: Intensity(1, 1, kind)(dark).sigmoid()[0, 0, 1] for kind in ("bright", "dark", "minority")}
    assert {kind: [round(float(value), 3) for value in row] for kind, row in found.items()} == {
        "bright": [1, 0],
        "dark": [0, 1],
        "minority": [0, 1],
    }
    flat = tensor([[[[0.5, 0.5]]]])
    assert float(Intensity(1, 1, "bright")(flat).sigmoid().max()) < 1e-5


@pytest.mark.parametrize("size_hw", [(30, 44), (300, 70)])
def test_each_image_is_seen_whole_whatever_the_size_of_windows(size_hw: tuple[int, int]) -> None:
    import torch

    program = build_program(CandidateParams.model_validate(OTSU), 2)
    image = torch.full((1, 1, *size_hw), 0.7)  # a bright ground: padding with black would turn it
    image[..., :10] = 0.4
    found = program(image)
    assert found.shape == (1, 1, *size_hw)
    assert bool((found[..., :10] > 0.9).all())
    assert bool((found[..., 10:] < 0.1).all())
    torch.testing.assert_close(program.stretched(image, size_hw), found)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_the_minority_is_the_smaller_part_by_otsu_whatever_the_mean(share: float) -> None:
    import torch

    from segops.models.intensity import Intensity, bright_share

    # Two levels near the middle of a range that one dark and one bright pixel stretch: the mean says little.
    values = torch.full((1, 1, 20, 50), 0.3)
    values[..., : round(50 * share)] = 0.45
    values[0, 0, 0, 0], values[0, 0, 0, 1] = 0.0, 0.7
    scaled = (values - values.min()) / (values.max() - values.min())
    assert float(bright_share(scaled)) == pytest.approx(share, abs=0.01)
    bright_is_foreground = bool(
        Intensity(1, 1, "minority")(values)[0, 0, 5, 0] > Intensity(1, 1, "minority")(values)[0, 0, 5, 49]
    )
    assert bright_is_foreground == (share < 0.5)
