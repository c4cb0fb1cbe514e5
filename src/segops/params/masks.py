"""Defines the params of masks: what their files' values mean."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segops.errors import UserError
from segops.params.colours import WrittenColour, check_given, colours_by_index, hex_colour, rgb
from segops.params.section import Section

CLASS = "{class}"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def _value(key: Any) -> Any:
    """Return a key of mask_values as a whole number, or a colour in small letters."""
    if isinstance(key, str):
        return key.lower() if _COLOUR.fullmatch(key) else int(key) if re.fullmatch(r"-?\d+", key) else key
    return key


MaskValue = Annotated[int | str, BeforeValidator(_value, json_schema_input_type=int | WrittenColour)]


class MaskParams(Section):
    """What masks mean."""

    mask_kind: Literal["classes", "objects", "one_file_per_class"] = Field(
        "classes",
        description="what a mask's values are: mask_values; or ids of objects of the single foreground class (0 is "
        "background; of mask_values the two names count); or a file for each class, in which anything above 0 is the "
        "class whose name stands for {class} in the masks' path",
    )
    mask_values: dict[MaskValue, str] = Field(
        {0: "background", 255: "foreground"},
        min_length=2,
        description='file value, or colour "#rrggbb", to class; the first is background',
    )
    mask_channel: int | None = Field(
        None, ge=0, description="channel of its file that holds a mask, counted from 0; null: a mask has one"
    )
    stray_values: Literal["error", "nearest", "background"] = Field(
        "error",
        description="a mask value outside mask_values: stop, take the nearest listed value (at most a quarter of "
        "the way to the next), or background",
    )
    mask_tolerance: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="how far values of a mask of floats may lie from the whole numbers that they mean",
    )
    ignore_values: list[MaskValue] = Field(
        [],
        description='file values, or colours "#rrggbb", of pixels that belong to no known class: never trained on, '
        "never scored",
    )
    ignore_classes: list[str] = Field(
        [],
        description="classes of annotated objects, such as polygons, whose pixels are ignored so, whatever else is "
        "annotated there",
    )
    class_colours: dict[str, Annotated[str, BeforeValidator(hex_colour, json_schema_input_type=WrittenColour)]] = Field(
        {}, description='"#rrggbb" by class name, for pictures and predicted masks; the others are chosen'
    )

    def check_masks(self) -> None:
        """Raise ValueError for values that are no masks', or don't go together."""
        if len(self.classes) < 2:
            raise ValueError("mask_values names one class; map at least two values to two classes")
        for value in self.mask_values:
            if isinstance(value, str) and not _COLOUR.fullmatch(value):
                raise ValueError(f"mask_values: '{value}' is neither a whole number nor a colour \"#rrggbb\"")
        if len({isinstance(value, str) for value in self.mask_values}) > 1:
            raise ValueError("mask_values mixes numbers and colours; a mask has either")
        if self.mask_kind == "objects" and len(self.classes) != 2:
            raise ValueError(
                f"mask_kind objects has one foreground class, but mask_values names {len(self.classes)} classes "
                f"({', '.join(self.classes)}); name background and that class"
            )
        check_given(self.class_colours, self.classes)
        self._check_ignored()

    def _check_ignored(self) -> None:
        """Raise ValueError where what is ignored is no value, or is a class too."""
        for value in self.ignore_values:
            if isinstance(value, str) and not _COLOUR.fullmatch(value):
                raise ValueError(f"ignore_values: '{value}' is neither a whole number nor a colour \"#rrggbb\"")
            listed = self.mask_values.get(value) if self.mask_kind == "classes" else None
            if listed is not None:
                raise ValueError(f"ignore_values: {value} is {listed} in mask_values; keep one of them")
            if self.mask_kind != "objects" and isinstance(value, str) != self.by_colour:
                raise ValueError("ignore_values and mask_values are both numbers, or both colours")
        if twice := sorted({*self.ignore_classes} & {*self.classes}):
            raise ValueError(f"ignore_classes: '{twice[0]}' is a class of mask_values; keep one of them")

    def check_background(self) -> None:
        """Raise UserError where the class that is called background isn't the first: it would be an object.

        It is called where params.yaml is loaded, and where masks are read.
        """
        for position, name in enumerate(self.classes):
            if position and name.strip().lower() == "background":
                value = next(value for value, other in self.mask_values.items() if other == name)
                raise UserError(
                    f"ingest.mask_values: '{name}' isn't the first class, so it would be an object and "
                    f"'{self.classes[0]}' the background; list {value}: {name} first"
                )

    @property
    def by_colour(self) -> bool:
        """Whether masks are read by colour."""
        return any(isinstance(value, str) for value in self.mask_values)

    @property
    def class_of_value(self) -> dict[int, str]:
        """Class by the value that `read_mask` gives: of a colour, its red, green and blue as one number."""
        return {
            colour_code(value) if isinstance(value, str) else value: name for value, name in self.mask_values.items()
        }

    @property
    def ignored_values(self) -> list[int]:
        """The values to ignore, as `read_mask` gives them."""
        return [colour_code(value) if isinstance(value, str) else value for value in self.ignore_values]

    @property
    def classes(self) -> list[str]:
        """Class names in index order; 0 is background."""
        return list(dict.fromkeys(self.mask_values.values()))

    @property
    def colours(self) -> list[str]:
        """`#rrggbb` of each class, in index order."""
        return colours_by_index(self.classes, self.class_colours)


def colour_code(colour: str) -> int:
    """Return red, green and blue of `#rrggbb` as one number of 24 bits."""
    red, green, blue = rgb(colour)
    return red << 16 | green << 8 | blue
