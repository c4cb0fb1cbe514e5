"""Defines what every file between two stages has in common.

Every JSON has a model, carries `schema_version` and refuses to load when invalid. None holds a time, a path of this
machine, a host or a run id: those are in `run.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from segops.errors import UserError
from segops.files import readable, write_json
from segops.params.section import Value

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")
SUBSET_NAMES: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Subset by what tables and folders call it, in small letters."""


class Contract(Value):
    """A JSON file between two stages."""

    FILE: ClassVar[str]
    schema_version: Literal[1] = 1

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder/FILE`. Raises UserError when it is missing or doesn't fit the schema."""
        path = folder / cls.FILE
        try:
            with readable(path, "JSON file", "delete it and run its stage again"):
                content = path.read_bytes()
            return cls.model_validate_json(content)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run the stage that writes it first (`dvc repro`)") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise UserError(f"{path}: {where}: {first['msg']}; delete it and run its stage again") from None

    def save(self, folder: Path) -> None:
        """Write `folder/FILE` atomically."""
        write_json(folder / self.FILE, self.model_dump(mode="json"))
