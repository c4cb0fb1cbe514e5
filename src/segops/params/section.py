"""Defines what params and the contracts between stages are made of: values that are valid as long as they live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segops.secrets import refuse_secrets

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
    """A part of params.yaml, which holds no secret: git, dvc.lock and runs keep what it says."""

    _own_refusal: ClassVar[frozenset[str]] = frozenset()  # params that name another place for their secret

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: Any) -> Any:
        """Refuse a password or a token in any text."""
        if isinstance(data, dict):
            sections = {name for name, field in cls.model_fields.items() if field.annotation != dict[str, str]}
            own = {name: value for name, value in data.items() if not (name in sections and isinstance(value, dict))}
            refuse_secrets({name: value for name, value in own.items() if name not in cls._own_refusal})
        return data
