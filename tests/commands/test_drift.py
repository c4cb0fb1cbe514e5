"""New images against those of training: features, the rule, the page and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from segops.commands.drift import drift
from segops.contracts.prepared import Prepared
from segops.contracts.usage import Drift, Reference
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.evaluation.drift import compare_features, unusual_images
from segops.evaluation.features import image_features, make_reference, prediction_features
from segops.params.drift import DriftParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.reports.charts.distributions import cumulative, draw_cumulative
from tests.support.factories import write_image
from tests.support.small_models import SOME_SHA256, brightness_params, brightness_program, save_candidate, trained_model
from tests.support.tiny_prepared import disc, write_prepared


def test_features_of_an_image_by_hand() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 255  # red: channel means 1, 0, 0; their mean is a third
    found = image_features(image, trained_model(), channels=3)
    assert found == pytest.approx(
        {
            "intensity_mean": 1 / 3,
            "intensity_std": (2 / 9) ** 0.5,  # of a third ones and two thirds zeros
            "intensity_p01": 0,
            "intensity_p99": 1,
            "colour_red": 2 / 3,
            "colour_green": -1 / 3,
            "colour_blue": -1 / 3,
        },
        abs=1e-6,
    )
    grey = image_features(image[..., :1], trained_model(), channels=3)
    assert (grey["intensity_mean"], grey["colour_red"]) == (1, 0)
    assert set(image_features(image, trained_model(), channels=1)) == {name for name in found if "colour" not in name}


def test_a_value_that_all_images_share_is_no_difference(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path))
    made = make_reference(trained_model(data.meta), data, 3, [{"foreground_fraction": 0.1, "confidence": 1 / 3}] * 3)
    again = [image_features(data.image(row), trained_model(), 3) for row in data.rows("train")]
    same = [one | {"foreground_fraction": 0.1, "confidence": 0.333333} for one in again]
    assert [one.distance for one in compare_features(made, same, DriftParams())] == [0.0] * 9


def test_a_large_image_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.evaluation.features._MOST_PIXELS", 16)
    image = np.tile(np.array([[0, 255], [255, 255]], np.uint8), (8, 8))[..., None]  # every second pixel is black
    assert image_features(image, trained_model(), channels=1)["intensity_mean"] == 0


def test_features_of_a_prediction_by_hand() -> None:
    probability = np.array([[[0.9, 0.2], [0.5, 0.0]]], np.float32)
    mask = np.array([[1, 0], [0, 0]], np.uint8)
    assert prediction_features(probability, mask) == pytest.approx(
        {"foreground_fraction": 0.25, "confidence": (0.9 + 0.8 + 0.5 + 1) / 4}
    )
    several = np.array([[[0.2, 0.1]], [[0.3, 0.2]], [[0.5, 0.7]]], np.float32)
    assert prediction_features(several, np.array([[2, 2]], np.uint8))["confidence"] == pytest.approx(0.6)


def reference(**changed: Any) -> Reference:
    values: dict[str, Any] = {
        "candidate": "small",
        "key": SOME_SHA256,
        "weights_sha256": SOME_SHA256,
        "training_images": 101,
        "validation_images": 101,
        "training_groups": 101,
        "validation_groups": 101,
        "of_images": {"intensity_mean": [i / 100 for i in range(101)]},
        "of_predictions": {"confidence": [0.5 + i / 200 for i in range(101)]},
        **changed,
    }
    return Reference.model_validate(values)


def rows(intensity: list[float], confidence: list[float]) -> list[dict[str, float]]:
    return [{"intensity_mean": a, "confidence": b} for a, b in zip(intensity, confidence, strict=True)]


def test_distance_p_and_shift_are_those_of_scipy_on_the_same_samples() -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    new = [0.6 + i / 50 for i in range(20)]  # 0.6 to 0.98
    intensity, confidence = compare_features(reference(), rows(new, [0.5 + i / 40 for i in range(20)]), DriftParams())
    exact = ks_2samp([i / 100 for i in range(101)], new, method="asymp")
    assert intensity.distance == pytest.approx(60 / 101, abs=1e-9)  # 60 of 101 reference values lie below 0.6
    assert intensity.p == pytest.approx(2 * exact.pvalue, rel=1e-9)  # the smaller of two p-values
    assert intensity.shift is not None
    std = float(np.std([i / 100 for i in range(101)]))
    assert intensity.shift == pytest.approx(wasserstein_distance([i / 100 for i in range(101)], new) / std)
    assert (intensity.reference_median, intensity.drifted) == (0.5, True)
    assert not confidence.drifted


def test_many_images_of_a_small_difference_and_few_of_a_large_one_are_no_drift() -> None:
    points = [i / 100 for i in range(101)]
    many = compare_features(
        reference(training_images=20_000, training_groups=20_000),
        rows([x * 0.9 for x in points] * 100, [0.75] * 10_100),
        DriftParams(),
    )[0]
    assert many.p is not None
    assert many.p < 1e-6
    assert many.distance < 0.12
    assert not many.drifted
    few = compare_features(reference(), rows([0.9, 0.92], [0.7, 0.8]), DriftParams())[0]
    assert few.distance > 0.8
    assert not few.drifted
    assert compare_features(reference(), rows([0.9, 0.92], [0.7, 0.8]), DriftParams(alpha=0.5))[0].drifted


def test_a_constant_reference_has_no_shift() -> None:
    found = compare_features(
        reference(of_images={"intensity_mean": [0.5] * 9}), rows([0.5, 0.6], [0.7, 0.8]), DriftParams()
    )
    assert found[0].shift is None


def test_predictions_on_few_groups_judge_nothing_and_say_so() -> None:
    # One validation group, very sure; training images of another known group, for which the model is less sure.
    one_group = reference(validation_groups=1, of_predictions={"confidence": [0.97 + i / 10_000 for i in range(40)]})
    given = rows([0.02 + i / 21 for i in range(20)], [0.9] * 20)
    intensity, confidence = compare_features(one_group, given, DriftParams())
    assert (intensity.drifted, intensity.reason) == (False, None)
    assert (confidence.distance, confidence.p, confidence.drifted) == (1.0, None, False)
    assert confidence.reason == "not judged: 1 validation group, judged from 10 on"
    assert unusual_images(one_group, given, [str(i) for i in range(20)], most=5) == []
    enough = one_group.model_copy(update={"validation_groups": 10})
    assert compare_features(enough, given, DriftParams())[1].drifted


def test_a_reference_counts_as_many_observations_as_it_has_groups() -> None:
    given = rows([0.6 + i / 50 for i in range(20)], [0.75] * 20)
    by_image, by_group = (
        compare_features(reference(training_groups=groups), given, DriftParams())[0] for groups in (101, 3)
    )
    assert by_image.distance == by_group.distance
    assert by_image.p is not None
    assert by_group.p is not None
    assert by_image.p < 1e-3 < 0.1 < by_group.p


def test_unusual_images_are_those_with_most_features_outside() -> None:
    given = rows([0.5, 2.0, -1.0, 0.5], [0.75, 0.75, 0.1, 0.2])
    found = unusual_images(reference(), given, ["a", "b", "c", "d"], most=2)
    assert [(one.image, one.features) for one in found] == [
        ("c", ["intensity_mean", "confidence"]),
        ("b", ["intensity_mean"]),
    ]


def test_a_reference_keeps_every_value_of_few_images(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path))
    predictions = [{"foreground_fraction": share, "confidence": 0.5} for share in (0.3, 0.1, 0.2)]
    made = make_reference(trained_model(data.meta), data, 3, predictions)
    assert (made.training_images, made.validation_images, made.training_groups) == (10, 3, 10)
    assert made.of_predictions["foreground_fraction"] == [0.1, 0.2, 0.3]
    means = sorted(float(data.image(row).mean()) / 255 for row in data.rows("train"))
    assert made.of_images["intensity_mean"] == pytest.approx(means, abs=1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate's folder with its reference: discs on a dark ground."""
    folder = tmp_path_factory.mktemp("drift")
    prepared = write_prepared(folder / "prepared")
    saved = save_candidate(folder / "model", brightness_program(), brightness_params(), Prepared.load(prepared))
    from segops.inference.predict import Predictor

    data, predictor = PreparedData.open(prepared), Predictor.load(folder / "model")
    found = []
    for row in data.rows("val"):
        probability = predictor.probability(data.image(row))
        found.append(prediction_features(probability, predictor.decide(probability)))
    make_reference(saved, data, 3, found).save(folder / "model")
    return folder / "model"


def run(model: Path, images: Path, report: Path, params: DriftParams | None = None, **given: Any) -> Drift:
    runtime = RuntimeParams(threads=1, device="cpu")
    params = params or DriftParams(alpha=0.05)
    return drift(str(model), params, runtime, TrackingParams(), images=images, report=report, **given)


def write_discs(folder: Path, count: int, *, dim: bool = False) -> Path:
    for number in range(count):
        image, _ = disc((40, 40), 3, seed=1000 + number)
        write_image(folder / "deeper" / f"{number:02}.png", image // 2 if dim else image)
    return folder


def test_images_like_those_of_training_do_not_drift(model: Path, tmp_path: Path) -> None:
    made = run(model, write_discs(tmp_path / "new", 10), tmp_path / "report")
    assert made.drifted == []
    assert Drift.load(tmp_path / "report") == made
    assert (made.images, made.training_images, made.validation_images) == (10, 10, 4)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Nothing to do: no drift." in page
    first = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir() if path.name != "run.json"}
    run(model, tmp_path / "new", tmp_path / "report")
    assert first == {name: (tmp_path / "report" / name).read_bytes() for name in first}


def test_dim_images_drift_and_are_shown(model: Path, tmp_path: Path) -> None:
    made = run(model, write_discs(tmp_path / "new", 10, dim=True), tmp_path / "report")
    assert "intensity_p99" in made.drifted
    assert "colour_red" not in made.drifted
    assert made.unusual[0].image.startswith("deeper/")
    assert "foreground_fraction" not in made.unusual[0].features  # of 4 validation groups, too few to judge
    assert made.not_judged == ("foreground_fraction, confidence: not judged: 4 validation groups, judged from 10 on")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "these images drifted.</strong> intensity_mean" in " ".join(page.split())
    assert made.not_judged in page
    assert page.count("data:image/jpeg;base64,") == len(made.unusual) == 10
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("case", ["none", "few", "unreadable", "reference", "other"])
def test_a_mistake_is_one_line_and_writes_no_report(model: Path, tmp_path: Path, case: str) -> None:
    images, given = write_discs(tmp_path / "new", 9), None
    if case == "none":
        images, text = tmp_path / "nothing", "no such folder; segops drift takes a folder"
    elif case == "few":
        images, text = write_discs(tmp_path / "few", 3), r"3 images can't show a drift; give at least 8, or lower"
    elif case == "unreadable":
        (images / "bad.png").write_text("no PNG")
        text = r"bad\.png"
    elif case == "reference":
        given, text = tmp_path, r"reference\.json: no such file"
    else:
        reference().save(tmp_path / "other")
        given, text = tmp_path / "other", r"reference\.json is of other weights than .*model; point"
    with pytest.raises(UserError, match=text) as error:
        run(model, images, tmp_path / "report", reference=given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()


def test_cumulative_curves_rise_from_0_to_1_at_their_values() -> None:
    axes = Figure().add_subplot()
    draw_cumulative(axes, [0.0, 1.0], [0.5])
    reference, values = (np.asarray(line.get_xydata())[1:].tolist() for line in axes.get_lines())
    assert reference == [[0.0, 0.5], [1.0, 1.0]]  # rises by half at each of its values
    assert values == [[0.5, 1.0]]
    assert cumulative("share", [0.0, 1.0], [0.5]) == cumulative("share", [0.0, 1.0], [0.5])


def test_the_command_ends_with_code_4_for_drift(
    model: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from segops.cli.main import app

    monkeypatch.chdir(tmp_path)
    write_discs(tmp_path / "dim", 10, dim=True)
    write_discs(tmp_path / "alike", 10)
    for folder, code in (("dim", 4), ("alike", 0)):
        done = CliRunner().invoke(
            app, ["drift", folder, "--model", str(model), "--params", str(root / "params.yaml"), "--report", "out"]
        )
        assert done.exit_code == code, done.output
