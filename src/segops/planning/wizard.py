"""Asks a person where the facts leave a doubt: how files pair, what mask values mean, which images belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import yaml
from pydantic import ValidationError

from segops.data.layouts.pairing import Members
from segops.errors import UserError
from segops.params.dotted import changed
from segops.params.explain import explain
from segops.params.project import Params
from segops.planning.classes import Classes
from segops.planning.decisions import Decision
from segops.planning.groups import Grouping, by_pattern, describe_counts
from segops.planning.pairing import Pairing, given_pairing

Ask = Callable[[str, str], str]
"""Puts a question and its default to a person, and returns the answer."""

_SAID = "as you said"
_ANY = Params.model_validate(
    {"ingest": {"source": "synthetic://any"}, "candidates": {"net": {"model": {"architecture": "unet"}}}}
)
_VOLUMES = Params.model_validate(
    {
        "ingest": {"source": "synthetic://any", "dimensions": 3},
        "candidates": {
            "net": {"model": {"architecture": "unet_3d"}, "input": {"size": [64, 64, 64], "resize": "none"}},
        },
    }
)  # whose candidates alone have params of their own
_CANDIDATE = re.compile(r"^candidates\.[^.]+\.")


def settle_pairing(pairing: Pairing | None, ask: Ask | None, source: Members, uri: str) -> Pairing:
    """Ask for the globs of images and masks where the names leave a doubt."""
    if ask is None or (pairing is not None and (pairing.sure or pairing.params["layout"] != "pairs")):
        assert pairing is not None, "without a person to ask, no pairing is an error"
        return pairing
    known = pairing.params if pairing else {}
    why = pairing.why if pairing else f"no layout pairs the files of {uri}"
    images = ask(f"{why}. Folder or glob of the images", known.get("images", "images"))
    masks = ask("Folder or glob of the masks", known.get("masks", "masks"))
    if pairing and (images, masks) == (known["images"], known["masks"]):
        return replace(pairing, sure=True)
    return given_pairing(source, uri, images, masks)


def settle_classes(classes: Classes, ask: Ask | None) -> Classes:
    """Ask for the classes' names where nothing tells them; the background is named first."""
    if ask is None or classes.sure:
        return classes
    values = classes.params["mask_values"]
    named = {value: ask(f"{classes.why}. What is {value}?", name) for value, name in values.items()}
    if len(set(named.values())) < 2:
        raise UserError("all mask values got one name; give at least two classes a name of their own")
    return replace(classes, params={**classes.params, "mask_values": named}, why=_SAID, sure=True)


def settle_grouping(grouping: Grouping, ask: Ask | None, ids: Sequence[str]) -> Grouping:
    """Ask which images belong together where names and pixels leave a doubt."""
    if ask is None or grouping.sure:
        return grouping
    question = f"{grouping.why}. A regular expression with (..) around the patient, slide or field, or `image`"
    said = ask(question, grouping.pattern or "image")
    if said == "image":
        return Grouping("image", {image_id: image_id for image_id in ids}, _SAID)
    try:
        groups = by_pattern(ids, said)
    except (re.error, IndexError) as error:
        raise UserError(f"'{said}' is no regular expression with a group ({error})") from None
    if groups is None:
        raise UserError(f"'{said}' finds no group in some ids, such as {ids[0]}")
    return Grouping("pattern", groups, f"{_SAID}: {describe_counts(groups)}", pattern=said)


def answer(decision: Decision, ask: Ask) -> Any:
    """Ask for the value of a param, as YAML. Raises UserError for a value that the param can't have."""
    shown = yaml.safe_dump(decision.value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
    said = ask(f"{decision.param} ({decision.why})", shown)
    if said == shown:
        return decision.value
    try:
        value = yaml.safe_load(said)
        anything = _ANY if "*" in decision.param else _VOLUMES
        changed(anything, {_CANDIDATE.sub("candidates.net.", decision.param): value})
    except yaml.YAMLError:
        raise UserError(f"{decision.param}: '{said}' is not valid YAML") from None
    except ValidationError as error:
        raise UserError(f"{decision.param}: '{said}': {explain(error, Params)}") from None
    return value
