"""Reads images whose pixels are indices of a palette: by colour, or by index, the same way for every file."""

from __future__ import annotations

import numpy as np

from segops.data.decoders.decoded import Decoded, Reading

INDICES_KEPT = "a palette's indices read as the mask's values"


def by_palette(indices_HW: np.ndarray, colours_NC: np.ndarray, reading: Reading) -> Decoded:
    """Give palette indices their meaning, which depends on the palette and never on the indices that an image uses.

    A mask by values keeps the indices. Otherwise colours count: grey, where every entry of the palette is, else RGB, or
    RGBA where the palette has four columns.

    Args:
        indices_HW: unsigned integers.
        colours_NC: N entries, uint8 red, green, blue, and maybe alpha.

    Raises: ValueError for an index beyond the palette.
    """
    highest = int(indices_HW.max(initial=0))
    if highest >= len(colours_NC):
        raise ValueError(f"colour {highest} is not in the palette of {len(colours_NC)}")
    grey = bool((colours_NC[:, :3] == colours_NC[:, :1]).all())
    if reading == "values":
        own = grey and bool((colours_NC[: highest + 1, 0] == np.arange(highest + 1)).all())
        return Decoded(indices_HW, changes=() if own else (INDICES_KEPT,))
    alpha = colours_NC.shape[1] == 4
    if grey:
        colours_NC = colours_NC[:, [0, 3] if alpha else [0]]
    return Decoded(colours_NC[indices_HW], alpha)
