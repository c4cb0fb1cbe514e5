"""Params as text: short, exact, one text for equal params."""

from __future__ import annotations

from pathlib import Path

import pytest

from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.compact import as_text, from_text
from segops.params.ingest import IngestParams
from segops.params.project import Params, load_params
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams

MODELS = (
    "{architecture: resunet}",
    "{architecture: unet, base_filters: 4}",
    "{architecture: attention_unet}",
    "{architecture: efficientnet_unet}",
)


def test_defaults_take_no_room_and_changes_few_quotes() -> None:
    assert as_text(SplitParams()) == "{}"
    assert as_text(SplitParams(seed=5, fractions=(0.5, 0.25, 0.25))) == "{fractions: [0.5, 0.25, 0.25], seed: 5}"
    assert from_text(SplitParams, "") == SplitParams()


def test_json_is_read_too() -> None:
    assert from_text(RuntimeParams, '{"threads": 1, "device": "cpu"}') == RuntimeParams(threads=1, device="cpu")


@pytest.mark.parametrize("model", MODELS)
def test_a_candidate_comes_back_whole(model: str) -> None:
    inner = f"members: [{{model: {model}, recipe: {{seed: 3}}}}]"
    more = "input: {clip: {percentiles: [1, 99]}}, outputs: sigmoid, recipe: {learning_rate: 1.0e-05, l2: 1}"
    params = from_text(CandidateParams, f"{{model: {model}, {more}, {inner}}}")
    text = as_text(params)
    assert from_text(CandidateParams, text) == params
    assert as_text(from_text(CandidateParams, text)) == text
    assert text.count("architecture") == 2  # a union's tag is never left out


def test_equal_params_have_one_text_however_they_were_written() -> None:
    given = IngestParams(source="a.zip", class_colours={"foreground": "#00ff00", "background": "#000000"})
    same = IngestParams(
        class_colours={"background": "#000000", "foreground": "#00FF00"}, shard_mib=256, source="a.zip", stack=[]
    )
    assert as_text(given) == as_text(same)


def test_the_order_of_mask_values_counts_even_where_they_are_the_defaults() -> None:
    inverted = IngestParams(source="a.zip", mask_values={255: "foreground", 0: "background"})
    assert inverted == IngestParams(source="a.zip")  # for Python
    assert as_text(inverted) == "{source: a.zip, mask_values: {255: foreground, 0: background}}"
    assert from_text(IngestParams, as_text(inverted)).classes == ["foreground", "background"]


def test_what_looks_like_another_type_stays_text() -> None:
    names = {
        "source": "2026-11-26",
        "name": "no",
        "licence": "1e3",
        "images": "a: b",
        "masks": "#x",
        "table": "\u00e4'\"",
    }
    params = IngestParams.model_validate(names)
    assert from_text(IngestParams, as_text(params)) == params


def test_all_params_of_the_project_come_back(root: Path) -> None:
    for path in (root / "params.yaml", *sorted((root / "benchmarks").glob("*.yaml"))):
        params = load_params(path)
        assert from_text(Params, as_text(params)) == params
        assert as_text(from_text(Params, as_text(params))) == as_text(params)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{seed: many}", "SplitParams: 'seed' = 'many': Input should be a valid integer"),
        ("{seed: [}", "SplitParams: not valid YAML: "),
        ("{sed: 3}", "SplitParams: unknown key 'sed'; did you mean 'seed'?"),
        ("[3]", "SplitParams: "),
    ],
)
def test_a_mistake_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        from_text(SplitParams, text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
