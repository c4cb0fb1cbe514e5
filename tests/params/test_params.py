"""params.yaml: ranges, unknown keys, the nearest right key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.params.project import Params, load_params
from segops.params.split import SplitParams
from tests.support.model_entries import model_params
from tools.models_table import ENTRIES
from tools.params_table import PAGE, replace_table, table


def _write(folder: Path, raw: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def _minimal() -> dict[str, Any]:
    return {"ingest": {"source": "cells.zip"}, "candidates": {"net": {"model": {"architecture": "unet"}}}}


@pytest.mark.parametrize("name", ["axon", "catalogue", "cpu_budget", "dsb2018", "literature", "objects", "volumes"])
def test_the_benchmarks_files_are_valid(root: Path, name: str) -> None:
    assert load_params(root / f"benchmarks/{name}.yaml").candidates


def test_the_catalogues_benchmark_has_each_architecture_once_at_its_defaults(root: Path) -> None:
    candidates = load_params(root / "benchmarks/catalogue.yaml").candidates
    assert list(candidates) == [entry.architecture for entry in ENTRIES if entry.depth_px is None]
    assert all(candidate.model == model_params(name) for name, candidate in candidates.items())
    assert len({candidate.input for candidate in candidates.values()}) == 1
    recipes = {candidate.recipe.model_copy(update={"learning_rate": 1.0}) for candidate in candidates.values()}
    assert len(recipes) == 1


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("ingests", {}, "unknown key 'ingests'; did you mean 'ingest'?"),
        ("ingest.sorce", "x", "unknown key 'ingest.sorce'; did you mean 'source'?"),
        ("validate.min_image", 3, "unknown key 'validate.min_image'; did you mean 'min_images'?"),
        (
            "candidates.net.model.base_filter",
            8,
            "unknown key 'candidates.net.model.base_filter'; did you mean 'base_filters'?",
        ),
        ("candidates.net.recipe.augment.flipp", True, "did you mean 'flip'?"),
        ("candidates.net.recipe.schedule", {"name": "step", "evry": 3}, "did you mean 'every'?"),
        ("candidates.net.recipe.loss", {"name": "bce", "label_smooting": 0.1}, "did you mean 'label_smoothing'?"),
        (
            "candidates.net.recipe.loss",
            {"name": "bce", "class_weights": "inverse"},
            "loss.class_weights' = 'inverse': Input should be 'inverse_frequency' or Input should be a valid",
        ),
        ("candidates.net.recipe.augment.flip", "up", "'candidates.net.recipe.augment.flip' = 'up': Input should be"),
        ("candidates.net.recipe.warmup_epochs", 10, "warmup_epochs is 10 of 10 epochs"),
        ("candidates.net.recipe.zzzz", 1, "known here: augment, batch_size"),
        ("candidates.net.recipe.epochs", 0, "'candidates.net.recipe.epochs' = 0: Input should be greater than"),
        ("candidates.net.input", {"size": 16}, "each side must lie in 32..2048 pixels"),
        ("split.fractions", [0.5, 0.5, 0.5], "must be positive and sum to 1"),
        ("ingest.group_by", "pattern", "group_pattern and group_by: pattern go together"),
        ("candidates.net.model.architecture", "vnot", "'candidates.net.model'"),
        ("candidates.net.model.architecture", "vnet", "vnet is a network for volumes: give input.size three numbers"),
    ],
)
def test_a_mistake_is_one_line_with_the_fix(tmp_path: Path, path: str, value: Any, expected: str) -> None:
    raw = _minimal()
    *parents, last = path.split(".")
    inner = raw
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    with pytest.raises(UserError) as error:
        load_params(_write(tmp_path, raw))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


CANDIDATE = "candidates: {net: {model: {architecture: unet}}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected sections"),
        ("a: [", "not a readable YAML file"),
        ("- 1", "expected sections"),
        ("ingest: {source: a}", "'candidates' is missing"),
        (CANDIDATE, "'ingest' is missing"),
        (f"{CANDIDATE}\ningest:", "'ingest.source' is missing"),
        ("ingest: {source: a}\ncandidates:", "'candidates': Dictionary should have at least 1 item"),
        # What must be given is missing because of the typo.
        (f"{CANDIDATE}\ningest: {{sorce: a}}", "unknown key 'ingest.sorce'; did you mean 'source'?"),
        (f"{CANDIDATE}\ninjest: {{source: a}}", "unknown key 'injest'; did you mean 'ingest'?"),
        ("ingest: {source: a}\ncandidate: {}", "unknown key 'candidate'; did you mean 'candidates'?"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_params(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_params(tmp_path / "params.yaml")


def test_an_unknown_candidate_names_the_known_ones() -> None:
    params = Params.model_validate(_minimal())
    with pytest.raises(UserError, match="no candidate 'nett'; it has net"):
        params.candidate("nett")


@given(st.text(max_size=12))
def test_no_text_is_taken_for_an_unknown_key(key: str) -> None:
    raw = _minimal() | {key: 1}
    if key in Params.model_fields or key in {"validate", "register"}:
        return
    with pytest.raises(ValueError, match="validation error"):
        Params.model_validate(raw)


@given(st.tuples(*[st.floats(0.01, 1)] * 3))
def test_normalised_fractions_are_taken(parts: tuple[float, float, float]) -> None:
    total = sum(parts)
    taken = SplitParams(fractions=(parts[0] / total, parts[1] / total, parts[2] / total))
    assert sum(taken.fractions) == pytest.approx(1)


def test_classes_are_in_the_order_of_mask_values_and_share_names() -> None:
    params = IngestParams(source="a.zip", mask_values={0: "background", 127: "myelin", 255: "axon", 254: "axon"})
    assert params.classes == ["background", "myelin", "axon"]


def test_the_page_of_params_has_the_present_table(root: Path) -> None:
    text = (root / PAGE).read_text()
    assert replace_table(text) == text


def test_the_table_has_a_row_for_each_leaf() -> None:
    rows = table().splitlines()[2:]
    names = [row.split("`")[1] for row in rows]
    assert len(names) == len(set(names))
    assert "candidates.<name>.recipe.schedule[plateau].patience" in names
    assert "validate.foreground_mostly" in names


def test_a_device_in_place_of_params_is_refused_unread() -> None:
    with pytest.raises(UserError, match=r"^/dev/zero: no file of params"):
        load_params(Path("/dev/zero"))
