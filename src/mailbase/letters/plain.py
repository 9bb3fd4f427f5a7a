"""Which templates are harmless by their words alone: what they make is no larger than what they hold and are given, a few times over.

Plain: text, ``{{ expressions }}``, ``if`` and ``for``. An expression of these reads names, compares, joins, and uses filters that give
back about as much as they get. It multiplies nothing, calls nothing and keeps nothing for later. All else runs in the ``sandbox``.
"""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from mailbase.letters.tags import split

STATEMENTS: Final = frozenset({"if", "elif", "else", "endif", "for", "endfor", "break", "continue"})
FILTERS: Final = frozenset(
    {
        "abs", "bool", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "format", "int", "join", "last",
        "length", "lower", "max", "min", "reverse", "round", "safe", "sort", "title", "trim", "unique", "upper", "urlencode",
    }
)  # fmt: skip
MOST_JOINED: Final = 16
"""Operators in one expression that put two values side by side, and filters one after another."""
LONGEST_SEPARATOR: Final = 24
_TOKEN: Final = re.compile(
    r"\s+|(?P<text>\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+')|(?P<number>\d[\w.]*)|(?P<name>[^\W\d]\w*)"
    r"|(?P<sign>//|\*\*|[=!<>]=|[-+*/%~<>=|.,:()\[\]])",
    re.DOTALL,
)
_WORDS: Final = frozenset({"and", "or", "not", "in", "is", "if", "elif", "else", "for"})
_FACTOR: Final = re.compile(r"\s*(?P<whole>\d{1,2})(?P<fraction>\.\d+)?(?![\w.])")
_OPENS: Final = re.compile(r"\s*\(")
_SEPARATOR: Final = re.compile(r"\s*\(\s*(?:\"[^\"\\]*\"|'[^'\\]*')\s*\)")


class Plain(Struct, frozen=True):
    """What a template is. ``tags``: how many of its pieces are not text."""

    harmless: bool
    loops: bool
    tags: int


@lru_cache(maxsize=32)
def look(source: str) -> Plain:
    """Return what a template is, from its words."""
    pieces = [piece for piece in split(source) if piece.kind != "text"]
    return Plain(
        harmless=all(
            (piece.kind == "expression" or piece.word in STATEMENTS) and is_harmless(piece.inner) for piece in pieces
        ),
        loops=any(piece.kind == "statement" and piece.word == "for" for piece in pieces),
        tags=len(pieces),
    )


@lru_cache(maxsize=4096)
def is_harmless(inner: str) -> bool:
    """Tell whether an expression, or the inside of an ``if`` or ``for``, is plain."""
    at = joined = 0
    before = sign = ""  # the last token as written, and the one before it
    while at < len(inner):
        match = _TOKEN.match(inner, at)
        if match is None:
            return False
        at = match.end()
        if match.lastgroup is None:
            continue
        word = match.group()
        joined += _cost(word, before, sign, inner, at)
        if joined > MOST_JOINED:
            return False
        sign = before if before != "not" else sign
        before = word
    return True


def _cost(word: str, before: str, sign: str, inner: str, at: int) -> int:
    """Return how many times a value may come out of this token, at most; more than ``MOST_JOINED`` where nobody knows."""
    if before == "|":
        return 1 if word in FILTERS and (word != "join" or _joins_shortly(inner, at)) else MOST_JOINED + 1
    if word == "*":  # text times a whole number is longer text, text times a fraction is refused
        factor = _FACTOR.match(inner, at)
        return (0 if factor["fraction"] else int(factor["whole"])) if factor else MOST_JOINED + 1
    if word in {"recursive", "**"} or (word == "(" and _calls(before, sign)):
        return MOST_JOINED + 1
    return int(word in {"~", "+", ","})


def _joins_shortly(inner: str, at: int) -> bool:
    separator = _SEPARATOR.match(inner, at)
    return separator.end() - at <= LONGEST_SEPARATOR if separator else _OPENS.match(inner, at) is None


def _calls(before: str, sign: str) -> bool:
    """Tell whether a bracket behind ``before`` calls it: not a filter, not a test, not a group."""
    if not before or (before in _WORDS and sign != ".") or sign in {"|", "is"}:
        return False
    return before[0].isalnum() or before[0] in "_)]\"'"
