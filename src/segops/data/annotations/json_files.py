"""Parses JSON that users bring: what is wrong with it is a line."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from segops.errors import UserError
from segops.params.section import Value


class Entry(Value):
    """A JSON object of a format that isn't ours: keys that the model lacks are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Document = TypeVar("Document", bound=BaseModel)


def parsed(content: bytes, model: type[Document], name: str, form: str) -> Document:
    """Parse a JSON file.

    Args:
        form: names the format in messages.

    Raises: UserError naming the file and the place of the first mistake.
    """
    try:
        return model.model_validate_json(content.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = " ".join(first["msg"].split())
        raise UserError(
            f"{name}: not {form}: {f'{where}: ' if where else ''}{what}; export the annotations again"
        ) from None
