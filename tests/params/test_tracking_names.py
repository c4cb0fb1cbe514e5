"""Names that MLflow refuses, or finds other things by, are refused when params load and not after a training."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segops.params.tracking import TrackingParams


@pytest.mark.parametrize("name", ["a", "nuclei", "cell nuclei v2", "zellkerne-größe", "a.b_c-d", "核", "n" * 200])
def test_names_that_mlflow_takes_are_taken(name: str) -> None:
    assert TrackingParams(model_name=name, experiment=name).model_name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        ".hidden",
        "../up",
        "x'y",
        'x"y',
        "x`y",
        "x%y",
        "x\\y",
        "x\ny",
        " x",
        "x ",
        "x\x00",
        "n" * 201,
    ],
)
@pytest.mark.parametrize("field", ["model_name", "experiment"])
def test_names_that_mlflow_refuses_or_mistakes_are_refused(field: str, name: str) -> None:
    with pytest.raises(ValidationError, match="MLflow needs a name of 1 to 200 characters without"):
        TrackingParams(**{field: name})


@pytest.mark.parametrize("name", ["a/b", "a:b", "/a", "a/", "models:/a"])
def test_a_models_name_is_no_path_and_an_experiments_may_be(name: str) -> None:
    with pytest.raises(ValidationError, match="without / :"):
        TrackingParams(model_name=name)
    assert TrackingParams(experiment=name).experiment == name


@given(st.text(max_size=12))
def test_what_params_take_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_experiment_name, _validate_model_name

    try:
        tracking = TrackingParams(model_name=name, experiment=name)
    except ValidationError:
        return
    _validate_model_name(tracking.model_name)
    _validate_experiment_name(tracking.experiment)
    assert not re.search(r"[\x00-\x1f'\"`%\\]", name)
