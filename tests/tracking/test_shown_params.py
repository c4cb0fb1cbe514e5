"""A run shows few params: those that people compare by, and what differs from the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.params.candidate import CandidateParams
from segops.params.project import load_params
from segops.tracking.shown_params import KEY_PARAMS, shown_params

ARCHITECTURE = {"model": {"architecture": "unet"}}
REQUIRED = {"model.architecture", "recipe.loss.name", "recipe.schedule.name"}


def _shown(**given: Any) -> dict[str, str]:
    return shown_params(CandidateParams.model_validate(ARCHITECTURE | given))


def test_the_defaults_are_the_key_params_and_what_has_no_default() -> None:
    shown = _shown()
    assert set(shown) == KEY_PARAMS | REQUIRED
    assert shown["input.size"] == "[256, 256]"
    assert shown["recipe.loss.name"] == "bce_dice"


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({"recipe": {"l2": 0.1}}, {"recipe.l2": "0.1"}),
        ({"recipe": {"ema_decay": None}}, {"recipe.ema_decay": "null"}),
        ({"recipe": {"augment": {"elastic_px": 3.0}}}, {"recipe.augment.elastic_px": "3.0"}),
        # An optional part is shown whole, since its being there is the news.
        ({"input": {"clahe": {}}}, {"input.clahe.clip_limit": "2.0", "input.clahe.tiles": "[8, 8]"}),
        # So is another kind of part.
        ({"recipe": {"schedule": {"name": "poly"}}}, {"recipe.schedule.power": "0.9"}),
    ],
)
def test_what_differs_is_shown(given: dict[str, Any], more: dict[str, str]) -> None:
    assert _shown(**given).items() - _shown().items() == (more | _schedule(given)).items()


def _schedule(given: dict[str, Any]) -> dict[str, str]:
    name = given.get("recipe", {}).get("schedule", {}).get("name")
    return {"recipe.schedule.name": name} if name else {}


def test_of_a_further_network_the_difference_to_the_own_one_is_shown() -> None:
    member = ARCHITECTURE | {"recipe": {"seed": 5}}
    shown = _shown(members=[member, member | {"recipe": {"seed": 6}}])
    assert {name: text for name, text in shown.items() if name.startswith("members")} == {
        "members.1.recipe.seed": "5",
        "members.2.recipe.seed": "6",
    }


def test_what_trains_nothing_shows_no_recipe_and_no_size() -> None:
    given = {"model": {"architecture": "intensity"}, "input": {"resize": "none", "channels": 1}}
    shown = shown_params(CandidateParams.model_validate(given))
    assert shown == {"model.architecture": "intensity", "input.resize": "none", "input.channels": "1"}


def test_the_projects_own_candidates_show_few(root: Path) -> None:
    for path in [root / "params.yaml", *root.glob("benchmarks/*.yaml")]:
        for name, params in load_params(path).candidates.items():
            assert len(shown_params(params)) <= 30, (path, name)
