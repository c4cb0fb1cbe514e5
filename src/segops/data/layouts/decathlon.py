"""Reads the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022), which nnU-Net's first version shares.

`dataset.json` lists `training`, pairs of `image` and `label`, and names `labels` by their value; `imagesTr/` and
`labelsTr/` hold them. Test images have no labels and aren't used. A file is a case, its channels a fourth axis.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from segops.data.decoders.kinds import image_stem
from segops.data.layouts.csv_rows import find_member
from segops.data.layouts.pairing import Members, Pair, describe_names
from segops.errors import UserError
from segops.files import parse_json
from segops.params.ingest import IngestParams

_FILE = "dataset.json"


def decathlon(source: Members, params: IngestParams) -> list[Pair]:
    """Pair images and labels as `dataset.json` lists them; a case is a group.

    Raises: UserError where the file isn't what the Decathlon's is, names a missing file, or calls a value by another
        name than `ingest.mask_values`.
    """
    name = find_member(source, _FILE, "ingest.layout decathlon", params)
    about = _parsed(source.read(name), name)
    _check_labels(about.get("labels", {}), name, params)
    members, root = set(source.names), PurePosixPath(name).parent
    pairs = []
    for number, entry in enumerate(about["training"], start=1):
        try:
            image, label = (str(root / entry[part]) for part in ("image", "label"))
        except (TypeError, KeyError):
            raise UserError(f"{name}: training {number}: needs `image` and `label`, the paths of two files") from None
        for path in (image, label):
            if path not in members:
                holds = describe_names(source.names, params)
                raise UserError(f"{name}: training {number}: '{path}' is not in the source; {holds}")
        pairs.append(Pair(PurePosixPath(image_stem(image)).name, image, (label,), "values"))
    return pairs


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    """Parse dataset.json. Raises UserError where it lists no pairs."""
    try:
        about = parse_json(content)
    except ValueError as error:
        raise UserError(f"{name}: not JSON ({error}); correct it") from None
    if not isinstance(about, dict) or not isinstance(about.get("training"), list) or not about["training"]:
        raise UserError(f"{name}: lists no `training` pairs, as the Decathlon's does; use layout pairs")
    return about


def _check_labels(labels: Any, name: str, params: IngestParams) -> None:
    """Raise UserError where the file calls a listed value by another name."""
    for value, label in labels.items() if isinstance(labels, dict) else ():
        ours = params.class_of_value.get(int(value)) if str(value).isdecimal() else None
        if ours is None or ours.casefold() != str(label).casefold():
            called = ", ".join(f"{key}: {text}" for key, text in labels.items())
            raise UserError(
                f"{name}: value {value} is '{label}' there, and {ours or 'not listed'} in ingest.mask_values; write "
                f"ingest.mask_values: {{{called}}}"
            )
