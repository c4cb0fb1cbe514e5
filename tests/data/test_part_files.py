"""What a part of some work saw comes back as it was, and nothing else does."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segops.contracts.part import PartRecord
from segops.contracts.pixels import StoredObject
from segops.data.parallel import Part
from segops.data.part_files import load_parts, save_part
from segops.errors import UserError
from segops.files import sha256_file

WORK = "0" * 64


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Held:
    inner: Any


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.text() | st.binary() | st.tuples(st.text(), st.integers())
VALUES = st.recursive(
    PLAIN | st.builds(StoredObject, key=st.text(), size_bytes=st.integers(1)),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(st.text())
        | st.builds(Pair, inner, inner)
        | st.builds(Held, inner)
    ),
    max_leaves=20,
)


def kept(folder: Path, value: Any) -> Any:
    save_part(folder, "look", Part(0, 1), WORK, value)
    ((_, loaded),) = load_parts([folder], "look", WORK, [Pair, Held, StoredObject])
    return loaded


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_an_object_comes_back_as_it_was(value: Any) -> None:
    with TemporaryDirectory() as folder:
        loaded = kept(Path(folder), value)
    assert loaded == value
    assert type(loaded) is type(value)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(["u1", "<u2", ">i4", "<u8", "<f4", "<f8", "?"]).flatmap(
            lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=3))
        )
    )
)
def test_arrays_come_back_in_their_bits(value: list[np.ndarray]) -> None:
    with TemporaryDirectory() as folder:
        loaded = kept(Path(folder), value)
    for array, before in zip(loaded, value, strict=True):
        assert (array.shape, array.dtype.kind, array.dtype.itemsize) == (
            before.shape, before.dtype.kind, before.dtype.itemsize,
        )  # fmt: skip
        assert array.tobytes() == before.astype(before.dtype.newbyteorder("<")).tobytes()
        assert array.flags.aligned, "sums of others may round otherwise"


def test_numbers_that_json_lacks_come_back(tmp_path: Path) -> None:
    not_a_number, infinite = kept(tmp_path, [math.nan, -math.inf])
    assert math.isnan(not_a_number)
    assert infinite == -math.inf


@pytest.mark.parametrize(
    "content", [b"{", b'{"Unknown": {}}', b'{"array": ["<f8", [9], 0]}', pickle.dumps([1]), b"\xff", b"[" * 100_000]
)
def test_what_isnt_a_parts_object_is_one_line(content: bytes, tmp_path: Path) -> None:
    record = save_part(tmp_path, "look", Part(0, 1), WORK, [1])
    (tmp_path / "state.json").write_bytes(content)
    hashes = record.files | {"state.json": sha256_file(tmp_path / "state.json")}
    PartRecord.model_validate(record.model_dump() | {"files": hashes}).save(tmp_path)
    with pytest.raises(UserError, match=r"state\.json: not a readable part of look \(.*\); run that part again"):
        list(load_parts([tmp_path], "look", WORK))
