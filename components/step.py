"""Declares components, and how their steps start. Their code is in the images, a pipeline holds none of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kfp import dsl

# The names that components are written with; `kubeflow.data_image` and `train_image` replace them.
DATA_IMAGE = "segops/data-python"
TRAIN_IMAGE = "segops/train-python"

# kfp's local runner refuses a command that doesn't name kfp's executor.
COMMAND = ("python3", "-m", "components.supervised", "-m", "components", "kfp.dsl.executor_main")


def step(image: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a component of a function in `components/NAME/component.py`, NAME its own; it installs nothing.

    Args:
        image: has this package and `segops` in it.
    """

    def declared(function: Callable[..., Any]) -> Any:
        if os.environ.get("_KFP_RUNTIME") == "true":  # in a step, where kfp can't make components
            return function
        component = dsl.component(base_image=image, target_image=image)(function)
        component.component_spec.implementation.container.command = list(COMMAND)
        return component

    return declared
