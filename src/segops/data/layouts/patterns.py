"""Compiles folder and glob patterns on member names, with what each wildcard stands for."""

from __future__ import annotations

import re
from functools import cache

from segops.data.decoders.kinds import image_stem, image_suffix
from segops.data.layouts.names import composed
from segops.errors import UserError

_WILDCARDS = {"**/": r"((?:[^/]+/)*)", "**": r"(.*)", "*": r"([^/]*)", "?": r"([^/])"}
_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Return whether a pattern has wildcards; without them it is a folder."""
    return any(character in pattern for character in "*?[")


def match(pattern: str, name: str) -> re.Match[str] | None:
    """Match a member's name with a pattern, whatever the case of its suffix and the form of its accents."""
    return compile_pattern(pattern).fullmatch(plain_suffix(name))


def literal(text: str) -> str:
    """Return the pattern that matches a text alone."""
    return re.sub(r"[*?\[]", r"[\g<0>]", text)


def is_match(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a member's name, or a folder that it is in."""
    return match(pattern, name) is not None or (is_glob(pattern) and match(f"{pattern}/**", name) is not None)


def plain_suffix(name: str) -> str:
    """Return a name in composed Unicode, with its suffix in lower case."""
    name = composed(name)
    return f"{image_stem(name)}{image_suffix(name)}"


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression with one group per wildcard.

    `*` and `?` stay within a folder, `**` crosses folders, `[ab]` is any of the characters. A pattern without
    wildcards is a folder; its single group is what lies below it. It is matched with names as `match` writes them.
    Raises UserError for a bad range such as `[z-a]`.
    """
    pattern = plain_suffix(pattern.removeprefix("./").rstrip("/"))
    if not is_glob(pattern):
        return re.compile(r"(.*)" if pattern in ("", ".") else re.escape(pattern) + r"/(.*)")
    try:
        return re.compile("".join(_translate(token) for token in _TOKENS.findall(pattern)))
    except re.error as error:
        raise UserError(f"ingest.images or ingest.masks: '{pattern}' is not a glob pattern ({error})") from None


def _translate(token: str) -> str:
    """Translate a token of a glob pattern into a regular expression."""
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if token.startswith("[") and len(token) > 1:
        body = token[1:-1].replace("\\", r"\\")
        return f"([{'^' + body[1:] if body.startswith('!') else body}])"
    return re.escape(token)
