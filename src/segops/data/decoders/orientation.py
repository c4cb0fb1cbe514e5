"""Turns images upright, as the tag `Orientation` of TIFF 6.0 and Exif (274) asks.

The tag says where the stored first row and first column are seen: 1 is upright, 2 to 8 are the other seven ways to flip
and turn. Other values, such as 0 or 9, mean nothing, and viewers show such an image as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segops.data.decoders.decoded import Decoded
from segops.errors import UserError
from segops.params.file_rules import FileRules

TAG = 274

_TURNS: dict[int, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    2: ("flipped sideways", lambda stored: stored[:, ::-1]),
    3: ("turned by 180 degrees", lambda stored: stored[::-1, ::-1]),
    4: ("flipped upside down", lambda stored: stored[::-1]),
    5: ("mirrored at its diagonal", lambda stored: stored.swapaxes(0, 1)),
    6: ("turned right by 90 degrees", lambda stored: np.rot90(stored, -1)),
    7: ("mirrored at its other diagonal", lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
    8: ("turned left by 90 degrees", lambda stored: np.rot90(stored)),
}


def turned(decoded: Decoded, rules: FileRules, name: str) -> Decoded:
    """Turn an image as its orientation asks, or keep it as stored; a value that the standard lacks turns nothing.

    Raises: UserError under the rule `error`: programs differ in whether they turn, so a mask that was drawn in another
        program may not fit, and nothing but a look at both tells.
    """
    if not isinstance(decoded.orientation, int) or decoded.orientation not in _TURNS:
        return decoded
    words, turn = _TURNS[decoded.orientation]
    tag = f"orientation tag {int(decoded.orientation)}"
    if rules.orientation == "error":
        raise UserError(
            f"{name}: its {tag} asks viewers to show it {words}; save it upright, or set ingest.orientation to turn, "
            "or to stored where masks were drawn on the image as it is stored"
        )
    if rules.orientation == "stored":
        return decoded.changed(decoded.array_HWC, f"kept as stored, against {tag}")
    return decoded.changed(turn(decoded.array_HWC), f"{words}, as its {tag} asks")
