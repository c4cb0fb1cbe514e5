"""Damages bytes in the ways that disks, networks, editors and strangers do."""

from __future__ import annotations

import random
from collections.abc import Callable

WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, draw: b"",
    "truncated": lambda content, draw: content[: draw.randrange(max(1, len(content)))],
    "bit flipped": lambda content, draw: flipped(content, draw),
    "ten bits flipped": lambda content, draw: flipped(content, draw, 10),
    "zeroed middle": lambda content, draw: _over(content, draw, lambda number: bytes(number)),
    "noise in the middle": lambda content, draw: _over(content, draw, draw.randbytes),
    "all noise": lambda content, draw: draw.randbytes(draw.randrange(1, 2000)),
    "noise in front": lambda content, draw: draw.randbytes(9) + content,
    "noise behind": lambda content, draw: content + draw.randbytes(draw.randrange(1, 300)),
    "twice": lambda content, draw: content + content,
    "a piece twice": lambda content, draw: _repeated(content, draw),
    "NUL bytes": lambda content, draw: content.replace(b"\n", b"\0", draw.randrange(1, 9)) or b"\0",
    "Latin-1": lambda content, draw: _inserted(content, draw, "größe\xb5".encode("latin-1")),
    "UTF-16": lambda content, draw: content.decode("latin-1").encode("utf-16"),
    "nested": lambda content, draw: b"[" * 5_000,
    "nested objects": lambda content, draw: b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a web page": lambda content, draw: b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "a Git LFS pointer": lambda content, draw: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"
    ),
    "a number": lambda content, draw: b"7",
    "a huge number": lambda content, draw: _inserted(content, draw, b"9" * 5000),
    "not a number": lambda content, draw: b'{"a": NaN, "b": 1e999}',
    "words swapped": lambda content, draw: _swapped(content, draw),
    "conflict marks": lambda content, draw: b"<<<<<<< HEAD\n" + content + b"=======\n" + content + b">>>>>>> other\n",
}
"""Ways by name, each from a content and a source of chance to other bytes."""


def damaged(content: bytes, way: str, draw: random.Random) -> bytes:
    """The content, damaged in a way."""
    return WAYS[way](content, draw)


def flipped(content: bytes, draw: random.Random, times: int = 1) -> bytes:
    """The content with bits changed at chance places."""
    changed = bytearray(content or b"\0")
    for _ in range(times):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _over(content: bytes, draw: random.Random, filling: Callable[[int], bytes]) -> bytes:
    begin = draw.randrange(max(1, len(content)))
    number = min(len(content) - begin, draw.randrange(1, 200))
    return content[:begin] + filling(max(number, 0)) + content[begin + number :]


def _inserted(content: bytes, draw: random.Random, piece: bytes) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + piece + content[place:]


def _repeated(content: bytes, draw: random.Random) -> bytes:
    begin, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[begin:]


def _swapped(content: bytes, draw: random.Random) -> bytes:
    words = content.split(b" ")
    draw.shuffle(words)
    return b" ".join(words)
