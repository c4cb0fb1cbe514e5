"""A param that is left out has its default: the same params, texts and keys as with the default written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipelines.training_pipeline import arguments
from segops.data.arrays import PreparedData
from segops.params.compact import as_text, differences
from segops.params.explain import models_in
from segops.params.loss import BCEDiceLoss
from segops.params.project import Params, load_params
from segops.params.recipe import OneCycleSchedule
from segops.training.batches.resized import cache_key
from segops.training.checkpoint import training_key

UNET = {"architecture": "unet"}
# What a user must state, by model. The tag of a union's variant comes on top.
STATED: dict[str, dict[str, Any]] = {
    "Params": {"ingest": {"source": "a.zip"}, "candidates": {"net": {"model": UNET}}},
    "IngestParams": {"source": "a.zip"},
    "NetworkParams": {"model": UNET},
    "CandidateParams": {"model": UNET},
    "SearchParams": {"space": {"recipe.epochs": {"int": [1, 2]}}},
    "Dimension": {"int": [1, 2]},
    "ClipParams": {"window": [0.0, 1.0]},
    "WeightsParams": {"source": "a.safetensors", "sha256": 64 * "0"},
    "DespeckleParams": {"filter": "median"},
    "ExternalParams": {"command": ["segment"], "version": "cellpose 4.0.6", "licence": "BSD-3-Clause"},
    "ExternalWeightsParams": {"path": "weights", "sha256": 64 * "0"},
}


def test_the_projects_own_file_is_short_and_says_what_is_special(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    params = load_params(root / "params.yaml")
    assert len(text.splitlines()) < 90
    assert text.splitlines()[0] == "# yaml-language-server: $schema=params.schema.json"
    assert (params.runtime.threads, params.runtime.devices, params.split.seed) == (2, 1, 36)
    assert params.ingest.source == "synthetic://nuclei?n=160&size=128&seed=7&tiles=2"
    assert params.ingest.classes == ["background", "nucleus"]
    assert params.split.fractions == (0.6, 0.2, 0.2)
    assert params.tune.confirm_seeds == 0
    assert (params.tune.searches["unet"].trials, params.tune.searches["unet"].epochs) == (3, 2)


def test_the_candidates_of_the_projects_own_file_are_small_and_otherwise_alike(root: Path) -> None:
    resunet, unet, otsu = load_params(root / "params.yaml").candidates.values()
    assert (as_text(otsu.model), otsu.inference.postprocess.threshold) == ("{architecture: intensity}", "otsu")
    assert as_text(resunet.model) == "{architecture: resunet, filters: [8, 16, 32, 64, 128]}"
    assert as_text(unet.model) == "{architecture: unet, base_filters: 16, batch_norm: true}"
    assert (resunet.recipe, resunet.input, resunet.inference) == (unet.recipe, unet.input, unet.inference)
    assert (resunet.input.size, resunet.input.channels, resunet.input.normalize) == ((128, 128), 3, "unit")
    recipe = resunet.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.learning_rate) == (6, 8, "adamw", 0.002)
    assert (recipe.weight_decay, recipe.clip_norm, recipe.output_bias, recipe.seed) == (0.01, 1.0, -1.8, 0)
    assert (recipe.ema_decay, recipe.precise_bn_images, recipe.keep, recipe.monitor) == (0.95, 64, "best", "dice")
    assert recipe.loss == BCEDiceLoss(name="bce_dice", bce_weight=1.0, dice_weight=0.5, smooth=1e-5)
    assert recipe.schedule == OneCycleSchedule(name="one_cycle", warmup=0.3)
    assert as_text(recipe.augment) == "{brightness: 0.1, contrast: 0.1}"
    assert resunet.inference.postprocess.threshold == "best_dice"


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = {inner for field in model.model_fields.values() for inner in models_in(field.annotation)}
    return {model}.union(*(_models(one) for one in inner))


@pytest.mark.parametrize("model", sorted(_models(Params), key=str))
def test_a_default_is_what_reading_it_gives(model: type[BaseModel]) -> None:
    """So `64` stands for no 64.0: two texts for one value would be two keys."""
    tags = {
        name: get_args(field.annotation)[0]
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
    omitted = model.model_validate(tags | STATED.get(model.__name__, {}))
    dumped = omitted.model_dump(mode="json", by_alias=True)
    written = model.model_validate(dumped)
    assert written == omitted
    assert as_text(written) == as_text(omitted)
    assert json.dumps(written.model_dump(mode="json", by_alias=True)) == json.dumps(dumped)


def _leaves(raw: dict[str, Any], before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of what isn't a dict with something in it."""
    paths: set[tuple[str, ...]] = set()
    for name, value in raw.items():
        path = (*before, name)
        paths |= _leaves(value, path) if isinstance(value, dict) and value else {path}
    return paths


def _without(raw: dict[str, Any], omitted: set[tuple[str, ...]], before: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        name: _without(value, omitted, (*before, name)) if isinstance(value, dict) else value
        for name, value in raw.items()
        if (*before, name) not in omitted
    }


def _keys(params: Params, prepared: Path) -> dict[str, Any]:
    """All that a stage, a checkpoint, a derived array or a pipeline's step is found again by."""
    data = PreparedData.open(prepared)
    setting: dict[str, Any] = {"threads": 1, "device": "cpu", "devices": 1, "precision": "fp32"}
    return {
        "pipeline": arguments(params),
        "text": as_text(params),
        "trainings": [training_key(name, one, data.meta, **setting) for name, one in params.candidates.items()],
        "arrays": [cache_key(data, one.input) for one in params.candidates.values()],
    }


@pytest.fixture(scope="module")
def project(root: Path) -> Params:
    return load_params(root / "params.yaml")


@given(st.data())
def test_no_key_tells_an_omitted_default_from_a_written_one(
    project: Params, prepared: Path, data: st.DataObject
) -> None:
    whole = project.model_dump(mode="json", by_alias=True)
    different = _leaves(json.loads(json.dumps(differences(project))))
    defaults = sorted(path for path in _leaves(whole) - different if not _of_a_choice(path))
    omitted = set(data.draw(st.lists(st.sampled_from(defaults), unique=True, max_size=len(defaults))))
    read = Params.model_validate(_without(whole, omitted))
    assert read == project
    assert _keys(read, prepared) == _keys(project, prepared)


def _of_a_choice(path: tuple[str, ...]) -> bool:
    """Whether a union's variant is named there, or a user's own dict is: a part of that is another value."""
    return path[-1] in ("name", "architecture") or bool({"mask_values", "profiles", "space"} & set(path))


def test_a_section_without_lines_is_one_of_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(STATED["Params"]) + "compare:\nvalidate: {}\n")
    assert load_params(path) == Params.model_validate(STATED["Params"])


@pytest.mark.parametrize("name", ["axon", "catalogue", "cpu_budget", "dsb2018", "literature", "objects"])
def test_a_benchmarks_file_is_short(root: Path, name: str) -> None:
    assert len((root / "benchmarks" / f"{name}.yaml").read_text().splitlines()) < 90


def test_a_published_recipe_is_as_published(root: Path) -> None:
    recipe = load_params(root / "benchmarks/literature.yaml").candidates["resunet_bn"].recipe
    assert as_text(recipe.schedule) == "{name: step}"
    assert (recipe.schedule.model_dump()["every"], recipe.schedule.model_dump()["factor"]) == (30, 0.1)
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.ema_decay) == ("adam", 0.001, 0.0, None)
    assert recipe.augment.model_dump(exclude_defaults=True) == {"flip": False, "rot90": False}
