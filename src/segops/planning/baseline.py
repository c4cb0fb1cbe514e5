"""Holds the rule of the candidate that trains nothing, so that every comparison says whether training is worth it."""

from __future__ import annotations

from typing import Any

from segops.planning.decisions import Decision, Decisions, Facts, Plan

BASELINE = "candidates.otsu"
_SHARED = ("input.clip", "inference.instances")  # with the networks, where these have them


def baseline(facts: Facts, plan: Plan) -> Decisions:
    """`candidates.otsu`: Otsu's threshold on each image, where one class is told from the background; with the
    watershed of the networks."""
    if len(facts.classes.names) > 2:
        return
    channels = plan["candidates.*.input.channels"]
    value: dict[str, Any] = {
        "model": {"architecture": "intensity"},
        "input": {"resize": "none", "channels": 1 if channels == 3 else channels},  # grey of colour, else their mean
        "inference": {"postprocess": {"threshold": "otsu"}},
    }
    for param in _SHARED:
        if (shared := plan.get(f"candidates.*.{param}", None)) is not None:
            section, _, name = param.partition(".")
            value[section][name] = shared
    yield Decision(BASELINE, value, "trains nothing, so that the comparison says whether training is worth it")
