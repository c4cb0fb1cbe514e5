"""Keeps what a pod makes of its range in a folder, and gives it to the step that joins the ranges.

Objects are written as JSON and plain arrays. Reading them makes objects of the named classes alone and runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from segops.contracts.part import PartRecord
from segops.data.flat_files import FlatWriter
from segops.data.parallel import Part
from segops.errors import UserError
from segops.files import parse_json, readable, sha256_file, sha256_lines, write_text

_STATE, _ARRAYS = "state.json", "state.arrays"
PART_FILES = (PartRecord.FILE, _STATE, _ARRAYS)
"""What lies in a part's folder beside its own files."""


def work_of(params: BaseModel, *files_sha256: str) -> str:
    """Name what parts are made of: params, and the files that all of them read."""
    return sha256_lines([params.model_dump_json(), *files_sha256])


def save_part(folder: Path, stage: str, part: Part, work: str, value: Any = None) -> PartRecord:
    """Write a part's object beside the files that its folder holds, and the hashes of all.

    Args:
        work: names all that the parts are made of; parts of other work can't be joined.
        value: of numbers, text, arrays, collections, and classes whose attributes are such.
    """
    with (folder / _ARRAYS).open("wb") as file:
        write_text(folder / _STATE, json.dumps(_packed(value, FlatWriter(file))))
    files = {file.relative_to(folder).as_posix(): sha256_file(file) for file in sorted(_files(folder))}
    record = PartRecord(stage=stage, number=part.number, parts=part.parts, work=work, files=files)
    record.save(folder)
    return record


def load_parts(
    folders: Sequence[Path], stage: str, work: str, classes: Sequence[type] = ()
) -> Iterator[tuple[Path, Any]]:
    """Yield the folders of all parts in the parts' order, each with the object that it holds.

    Args:
        folders: in any order.
        work: as the parts have it.
        classes: that an object may be made of. What stood in a subclass of dict or list comes back as the plain one.

    Raises: UserError for other work's part, a damaged one, and where some lack.
    """
    records = sorted(((PartRecord.load(folder), folder) for folder in folders), key=lambda part: part[0].number)
    wanted = records[0][0].parts if records else 1
    for record, folder in records:
        if (record.stage, record.work, record.parts) != (stage, work, wanted):
            raise UserError(f"{folder / PartRecord.FILE}: a part of other params, data or ranges; run that part again")
    numbers = [record.number for record, _ in records]
    if numbers != list(range(wanted)):
        raise UserError(f"{stage}: parts {numbers} of {wanted}; each is needed once: run those that lack")
    known = {kind.__name__: kind for kind in classes}
    for record, folder in records:
        for name, sha256 in record.files.items():
            if not (folder / name).is_file() or sha256_file(folder / name) != sha256:
                raise UserError(f"{folder / name}: not what the part's pod wrote; run that part again")
        with readable(folder / _STATE, f"part of {stage}", "run that part again"):
            tree = parse_json((folder / _STATE).read_bytes())
            value = _unpacked(tree, (folder / _ARRAYS).read_bytes(), known)
        yield folder, value


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _packed(value: Any, arrays: FlatWriter) -> Any:
    """Return an object as JSON has it; its arrays go to a file."""

    def every(items: Iterable[Any]) -> list[Any]:
        return [_packed(item, arrays) for item in items]

    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return every(value)
        case dict():
            return {"dict": [every(pair) for pair in value.items()]}
        case set() | frozenset():
            return {"set": every(sorted(value))}
        case tuple() if not hasattr(value, "_asdict"):
            return {"tuple": every(value)}
        case np.ndarray():
            return {"array": [value.dtype.newbyteorder("<").str, list(value.shape), arrays.append(value)]}
        case bytes():
            return {"bytes": value.hex()}
    return {type(value).__name__: {name: _packed(item, arrays) for name, item in _attributes(value).items()}}


def _attributes(value: Any) -> dict[str, Any]:
    """Return an object's attributes by name."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    attributes: dict[str, Any] = value._asdict() if hasattr(value, "_asdict") else vars(value)
    return attributes


def _unpacked(tree: Any, arrays: bytes, classes: dict[str, type]) -> Any:
    """Return the object that `_packed` was given."""
    if isinstance(tree, list):
        return [_unpacked(item, arrays, classes) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    match kind:
        case "array":
            dtype, shape, begin = inner
            return np.frombuffer(arrays, dtype, int(np.prod(shape, dtype=np.int64)), begin).reshape(shape)
        case "bytes":
            return bytes.fromhex(inner)
        case "dict":
            return {_unpacked(key, arrays, classes): _unpacked(item, arrays, classes) for key, item in inner}
        case "set":
            return set(_unpacked(inner, arrays, classes))
        case "tuple":
            return tuple(_unpacked(inner, arrays, classes))
    attributes, made = {name: _unpacked(item, arrays, classes) for name, item in inner.items()}, classes[kind]
    if issubclass(made, (tuple, BaseModel)):
        return made(**attributes)
    plain = object.__new__(made)
    vars(plain).update(attributes)
    return plain
