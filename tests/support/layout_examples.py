"""Pairs members of a made-up source by their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from segops.data.layouts.layout import find_examples
from segops.errors import UserError
from segops.params.ingest import IngestParams


@dataclass
class Given:
    """Members by name with their bytes."""

    members: dict[str, bytes]

    @property
    def names(self) -> list[str]:
        return sorted(self.members)

    def read(self, name: str) -> bytes:
        return self.members[name]


@dataclass(frozen=True)
class Example:
    """What is said of an example, but for its place in the layout."""

    image_id: str
    group_id: str
    image: str
    masks: tuple[str, ...]
    mask_rule: str
    modality: str | None = None
    stacked: tuple[str, ...] = ()
    mask_source: str = field(default="", compare=False)
    mask_classes: tuple[int, ...] = field(default=(), compare=False)


def examples(names: Iterable[str], content: str | bytes = b"", **params: Any) -> list[Example]:
    """The examples among members of these names; the one that ends with .csv or .tsv holds `content`."""
    text = content.encode() if isinstance(content, str) else content
    members = {name: text if name.endswith((".csv", ".tsv")) else b"" for name in names}
    return [
        Example(
            paired.image_id,
            paired.group_id,
            paired.pair.image,
            paired.pair.masks,
            paired.pair.mask_rule,
            paired.pair.modality,
            paired.pair.stacked,
            paired.pair.mask_source,
            paired.pair.mask_classes,
        )
        for paired in find_examples(Given(members), IngestParams.model_validate({"source": "raw.zip", **params}))
    ]


def ids(names: list[str], **params: Any) -> list[str]:
    return [example.image_id for example in examples(names, **params)]


def complaint(names: Iterable[str], content: str | bytes = b"", **params: Any) -> str:
    with pytest.raises(UserError) as error:
        examples(names, content, **params)
    assert "\n" not in str(error.value)
    return str(error.value)
