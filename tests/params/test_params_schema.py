"""params.schema.json: takes what the project's own files hold, refuses what loading refuses, explains each param."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tools import params_schema
from tools.params_table import table


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return params_schema.schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft7Validator:
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def _read(text: str) -> Any:
    """YAML as editors hand it to a schema: with texts as keys."""
    return json.loads(json.dumps(yaml.safe_load(text)))


def test_the_file_is_the_present_schema(root: Path, schema: dict[str, Any]) -> None:
    assert (root / params_schema.FILE).read_text(encoding="utf-8") == params_schema.text(schema) + "\n"


def test_its_text_is_its_json(schema: dict[str, Any]) -> None:
    assert json.loads(params_schema.text(schema)) == json.loads(json.dumps(schema))


def test_it_takes_the_projects_own_files(root: Path, validator: Draft7Validator) -> None:
    files = [root / "params.yaml", *sorted(root.glob("benchmarks/*.yaml")), *root.glob("infra/**/params.yaml")]
    assert len(files) == 10
    for path in files:
        assert [error.message for error in validator.iter_errors(_read(path.read_text()))] == [], path


def test_files_that_users_edit_name_it(root: Path) -> None:
    for path in (root / "params.yaml", *root.glob("benchmarks/*.yaml")):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (path.parent / first.partition("=")[2]).resolve() == root / params_schema.FILE


def _params(candidate: str = "{model: {architecture: unet}}", more: str = "") -> Any:
    return _read(f"ingest: {{source: a.zip}}\ncandidates:\n  net: {candidate}\n{more}")


@pytest.mark.parametrize(
    ("candidate", "more"),
    [
        ("{model: {architecture: unet}}", ""),
        ("{model: {architecture: dynunet, residual: true}}", "compare:"),  # a section without lines
        ("{model: {architecture: unet}, input: {size: 128, clip: null, clahe: {tiles: 4}}}", ""),
        ("{model: {architecture: unet}, input: {size: [64, 128], clip: {window: [-160, 240]}}}", "batch: {model: 3}"),
        ("{model: {architecture: unet}, recipe: {loss: {name: tversky, alpha: 0.2}}}", ""),
        ("{model: {architecture: unet}, recipe: {schedule: {name: poly}, augment: {flip: horizontal}}}", ""),
        ("{model: {architecture: unet}, members: [{model: {architecture: resunet}}]}", ""),
        (
            "{model: {architecture: unet}, inference: {postprocess: {threshold: 0.5}}}",
            "kubeflow: {profiles: {gpu: {}}}",
        ),
    ],
)
def test_it_takes_what_loading_takes(candidate: str, more: str, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(_params(candidate, more))] == []


@pytest.mark.parametrize(
    ("candidate", "more"),
    [
        ("{model: {architecture: vnot}}", ""),
        ("{model: {base_filters: 8}}", ""),
        ("{model: {architecture: unet, filters: [8, 16]}}", ""),  # another architecture's
        ("{model: {architecture: unet}, recipe: {epochs: 0}}", ""),
        ("{model: {architecture: unet}, recipe: {loss: {name: tversky, bce_weight: 1.0}}}", ""),
        ("{model: {architecture: unet}, recipe: {schedule: {name: stepp}}}", ""),
        ("{model: {architecture: unet}, input: {size: [1, 2, 3, 4]}}", ""),
        ("{model: {architecture: unet}}", "comparee: {}"),
        ("{model: {architecture: unet}}", "split: {sed: 3}"),
        ("{model: {architecture: unet}}", "ingest: {name: x}"),
    ],
)
def test_it_refuses_what_loading_refuses(candidate: str, more: str, validator: Draft7Validator) -> None:
    assert list(validator.iter_errors(_params(candidate, more)))


def test_a_candidates_name_is_checked(validator: Draft7Validator) -> None:
    given = _params()
    given["candidates"]["Res-UNet"] = given["candidates"].pop("net")
    assert list(validator.iter_errors(given))


def _described(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for model, part in schema["$defs"].items():
        for name, param in part["properties"].items():
            yield f"{model}.{name}", param


def test_each_param_is_explained_in_the_words_of_the_table(schema: dict[str, Any]) -> None:
    rows = table()
    for name, param in _described(schema):
        if "$ref" in param:  # a section, explained by its model's docstring
            assert schema["$defs"][param["$ref"].rpartition("/")[2]]["description"], name
            continue
        meaning = param["description"].partition(". Default: ")[0]
        parts_are_rows = "oneOf" in param or "additionalProperties" in param
        assert parts_are_rows or f"| {meaning} |" in rows, name


def test_a_default_is_said_once_more_in_words_and_not_of_whole_sections(schema: dict[str, Any]) -> None:
    parts = schema["$defs"]
    window = parts["InputParams"]["properties"]["window_overlap"]
    assert window["default"] == 0.25
    assert window["description"].endswith(" Default: 0.25")
    assert "default" not in parts["CandidateParams"]["properties"]["recipe"]
    assert parts["RecipeParams"]["properties"]["loss"]["default"] == {"name": "bce_dice"}
    assert "default" not in parts["IngestParams"]["properties"]["source"]
