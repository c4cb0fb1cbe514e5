"""Defines what params and the contracts between stages are made of: values that are valid as long as they live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]


class Value(BaseModel):
    """Immutable and valid: unknown keys are errors, and a copy with other values is validated as a new object is."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model with other values, which are validated, as pydantic's own copy doesn't do.

        Raises: pydantic.ValidationError.
        """
        if not update:
            return super().model_copy(deep=deep)
        present = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(
            {**present, **update}, by_alias=True, by_name=True
        )  # a field may have both names


class Section(Value):
    """A part of params.yaml."""
