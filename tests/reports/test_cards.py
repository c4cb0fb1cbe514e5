"""Cards: what they say comes from the files, and the same files give the same card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.comparison.entrants import load_pair
from segops.contracts.dataset import Dataset
from segops.contracts.model import TrainedModel
from segops.contracts.split import Split
from segops.contracts.tuned import TunedValues
from segops.contracts.validation import ValidationReport
from segops.params.candidate import CandidateParams
from segops.params.register import CardParams, RegisterParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.reports.dataset_card import counts, dataset_card
from segops.reports.model_card import Part, caveats
from segops.stages.register import write_card
from segops.stages.split import split
from segops.stages.validate import validate
from tests.support.factories import tiny_dataset
from tests.support.judged_candidates import folders, write_candidate

SECTIONS = (  # Mitchell et al. 2019, figure 1, and how to load
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Quantitative analyses", "Ethical considerations", "Caveats and recommendations", "How to load",
)  # fmt: skip


def _card(root: Path, card: CardParams | None = None, changes: dict[str, Any] | None = None, **scores: Any) -> str:
    write_candidate(root, "small", **scores)
    places = folders(root)
    model, report = places.models / "small", places.reports / "small"
    trained, evaluation = load_pair(model, report)
    trained = TrainedModel.model_validate(trained.model_dump() | (changes or {}))
    params = RegisterParams(card=card or CardParams())
    write_card(params, TrackingParams(model_name="cells"), trained, evaluation, report)
    return (report / "model_card.md").read_text(encoding="utf-8")


def test_a_model_card_has_its_sections_the_scores_and_the_lineage(tmp_path: Path) -> None:
    card = _card(tmp_path, val=(0.8, 0.9), test=(0.6, 0.8))
    assert [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert "| Dice | 0.850 (0.800 to 0.900) | 0.700 (0.600 to 0.800) |" in card
    assert "| training images | 20 in 10 groups: fluorescence (16), histology (4) |" in card
    assert "| modality histology | 1 | 1 | 0.800 | 0.800 |" in card
    model = TrainedModel.load(folders(tmp_path).models / "small")
    for value in (model.weights_sha256, model.key, model.source_sha256, model.assignment_sha256, model.test_sha256):
        assert f"`{value}`" in card
    assert 'load_model("models:/cells@champion"' in card
    assert card == _card(tmp_path, val=(0.8, 0.9), test=(0.6, 0.8))


def test_what_is_typed_by_hand_stands_in_the_card(tmp_path: Path) -> None:
    typed = CardParams(
        intended_use="Counting *yeast*.\n\n- no other cells\n", limits="Never on humans.", contact="a_b@x"
    )
    card = _card(tmp_path, typed)
    assert "## Intended use\n\nCounting *yeast*.\n\n- no other cells\n\n## Factors" in card
    assert "Never on humans." in card
    assert "| contact | a_b@x |" in card


def test_names_that_users_chose_are_no_markup(tmp_path: Path) -> None:
    classes = ("background", "my|elin", "<b>Axon</b>")
    card = _card(tmp_path, classes=classes, changes={"dataset": "a\n# b", "licence": "*"})
    assert "| my\\|elin | " in card
    assert "<b>" not in card
    assert "# Model card: small on a \\# b\n" in card
    assert "licence | the data's: \\* |" in card


def test_tuned_params_are_told_from_those_chosen_by_hand(tmp_path: Path) -> None:
    tuned = TunedValues(study="small 3f", trial=4, values={"recipe.learning_rate": 0.01})
    card = _card(tmp_path, changes={"tuned": tuned})
    assert "| `recipe.learning_rate` | `0.002` | search |" in card
    assert "| `recipe.epochs` | `10` | hand |" in card
    assert "trial 4 of the study `small 3f`" in card
    assert "| hand |" not in _card(tmp_path)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"input": {"size": 48}}, " to 48x48 pixels"),
        ({"input": {"resize": "none", "size": [32, 48]}}, "windows of 32x48 pixels"),
        ({"input": {"resize": "none", "size": 32}, "inference": {"window": [64, 96]}}, "windows of 64x96 pixels"),
    ],
)
def test_a_model_card_names_the_windows_that_a_prediction_takes(
    given: dict[str, Any], shown: str, tmp_path: Path
) -> None:
    params = CandidateParams.model_validate({"model": {"architecture": "resunet"}, **given}).model_dump(mode="json")
    assert shown in _card(tmp_path, changes={"params": params})


def test_the_figures_own_caveats(tmp_path: Path) -> None:
    write_candidate(tmp_path, "small", test=(0.2, 0.8))
    places = folders(tmp_path)
    model, evaluation = load_pair(places.models / "small", places.reports / "small")
    unseen = model.model_copy(update={"protocol": "published", "train_modalities": {"brightfield": 1, "histology": 2}})
    parts = [Part("modality", "fluorescence", 4, 4, 0.2, 0.2), Part("modality", "histology", 5, 5, 0.45, 0.4)]
    leak, few, absent, small, worse = caveats(unseen, evaluation, parts)
    assert leak.startswith("The protocol published")
    assert few == "The test set has 2 groups, so its intervals say little about new ones."
    assert absent == "No test image is of the modality brightfield."
    assert small == "The modality fluorescence has 4 test images, too few to judge it."
    assert worse == "On the modality fluorescence Dice is 0.200; on all images 0.500."


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, ValidationReport, Split]:
    root = tmp_path_factory.mktemp("data")
    dataset, report, sides = tiny_dataset(root), root / "validation", root / "split"
    validate(ValidateParams(), dataset=dataset, report=report)
    made = split(SplitParams(seed=9, fractions=(0.5, 0.25, 0.25)), dataset=dataset, report=report, split=sides)
    return sides, Dataset.load(dataset), ValidationReport.load(report), made


def test_split_writes_the_data_sets_card(contracts: tuple[Path, Dataset, ValidationReport, Split]) -> None:
    sides, data, checked, made = contracts
    card = (sides / "dataset_card.md").read_text(encoding="utf-8")
    assert card == dataset_card(data, checked, made)
    sections = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert sections == [  # Gebru et al. 2021, section 3
        "Motivation", "Composition", "Collection process", "Preprocessing, cleaning and labelling", "Uses",
        "Distribution", "Maintenance",
    ]  # fmt: skip
    assert "| images | 24, each with a mask |" in card
    assert f"`{data.source_sha256}`" in card
    test = made.subsets["test"]
    assert f"| test | {test.images} | {test.groups} |" in card
    assert f"`{test.sha256}`" in card
    assert "all hold." in card


def test_leaks_warnings_and_long_lists_are_said_in_short(
    contracts: tuple[Path, Dataset, ValidationReport, Split],
) -> None:
    _, data, checked, made = contracts
    one = checked.expectations[0].model_copy(update={"severity": "warning", "success": False, "failing_ids": ["a"]})
    warned = checked.model_copy(update={"expectations": [one] * 9})
    leaking = made.model_copy(
        update={
            "protocol": "published",
            "groups_on_two_sides": 2,
            "images_sharing_a_group_with_train": {"val": 1, "test": 3},
        }
    )
    sizes = {f"{side}x{side}": 1 for side in range(32, 40)} | {"64x64": 16}
    card = dataset_card(data.model_copy(update={"sizes": sizes}), warned, leaking)
    assert "2 groups are on two sides: 3 of\n" in card
    assert card.count(f"- {one.name} (warning): ") == 6
    assert "- 3 more, in the validation report" in card
    assert "64x64 (16), 32x32 (1)" in card
    assert "3 others (3) |" in card
    assert "as long as the seed stays" not in card


def test_counts_name_the_most_frequent_first() -> None:
    assert counts({"a": 1, "b": 3, "c": 1}) == "b (3), a (1), c (1)"
