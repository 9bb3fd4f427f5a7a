"""MiniJinja's tags as pieces of a source, and masks that carry them safely through tools that know no templates.

source ──split──▶ text | expression | statement …
source ──Mask.hide──▶ the same text with a word in each tag's place ──(MJML, HTML, links)──▶ Mask.show ──▶ source
"""

import re
from bisect import bisect_right
from typing import Literal

from msgspec import Struct

Kind = Literal["text", "expression", "statement"]

_OPEN = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\s*raw\s*")
_ENDRAW = re.compile(r"\{%([-+]?)\s*endraw\s*([-+]?)%\}")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_PAIRS = {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}


class Piece(Struct):
    """A stretch of a template. ``inner`` is a tag's content without delimiters and trims, or the literal text.

    ``start`` is where it begins in the source, in characters.
    """

    kind: Kind
    inner: str
    start: int

    @property
    def word(self) -> str:
        """The first word of a statement (``if``, ``endfor``, …)."""
        match = _WORD.search(self.inner)
        return match.group() if match else ""

    @property
    def source(self) -> str:
        """The piece as it may be written into a template again."""
        if self.kind == "expression":
            return "{{ " + self.inner + " }}"
        return "{% " + self.inner + " %}" if self.kind == "statement" else self.inner


def _end(source: str, at: int, closer: str) -> int:
    """Return where the tag's content ends: the position of ``closer`` (or of the trim sign before it)."""
    depth = 0
    while at < len(source):
        char = source[at]
        if char in "\"'":
            match = _STRING.match(source, at)
            at = match.end() if match else len(source)
            continue
        if depth <= 0 and (source.startswith(closer, at) or (char in "-+" and source.startswith(closer, at + 1))):
            return at
        depth += _PAIRS.get(char, 0)
        at += 1
    return len(source)


class _Cutter:
    """Cuts a template into pieces, one tag at a time."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.pieces: list[Piece] = []
        self.at = 0
        self.trim = False

    def cut(self) -> list[Piece]:
        while self.at < len(self.source):
            opening = _OPEN.search(self.source, self.at)
            if opening is None:
                self._text(len(self.source), strip_end=False)
                break
            body = opening.end()
            sign = self.source[body : body + 1]
            self._text(opening.start(), strip_end=sign == "-")
            body += sign in {"-", "+"}
            if opening.group() == "{#":
                self._comment(body)
            else:
                self._tag(opening.start(), body, "}}" if opening.group() == "{{" else "%}")
        return self.pieces

    def _text(self, end: int, *, strip_end: bool) -> None:
        value = self.source[self.at : end]
        if self.trim:
            value = value.lstrip()
        if strip_end:
            value = value.rstrip()
        if not value:
            return
        if self.pieces and self.pieces[-1].kind == "text":
            self.pieces[-1].inner += value
        else:
            self.pieces.append(Piece("text", value, self.at))

    def _comment(self, body: int) -> None:
        close = self.source.find("#}", body)
        close = len(self.source) if close < 0 else close
        self.trim = close > body and self.source[close - 1] == "-"
        self.at = close + 2

    def _tag(self, start: int, body: int, closer: str) -> None:
        close = _end(self.source, body, closer)
        inner = self.source[body:close]
        sign = self.source[close : close + 1]
        self.trim = sign == "-"
        self.at = close + (3 if sign in {"-", "+"} else 2)
        if closer == "%}" and _RAW.fullmatch(inner):
            self._raw()
        else:
            self.pieces.append(Piece("expression" if closer == "}}" else "statement", inner.strip(), start))

    def _raw(self) -> None:
        ending = _ENDRAW.search(self.source, self.at)
        if ending is None:
            self._text(len(self.source), strip_end=False)
            self.at = len(self.source)
            return
        self._text(ending.start(), strip_end=ending.group(1) == "-")
        self.trim = ending.group(2) == "-"
        self.at = ending.end()


def split(source: str) -> list[Piece]:
    """Cut a template MiniJinja has accepted into its pieces.

    Comments are gone, ``raw`` blocks are text, trims (``{{-``, ``-%}``) are already applied to the text beside them.
    """
    return _Cutter(source).cut()


def literal(text: str) -> str:
    """Return a template source that renders to exactly ``text``, whatever braces it holds."""
    return re.sub(r"\{(?=[{%#]|$)", '{{ "{" }}', text)


class Mask:
    """Hides the tags of one or more templates behind lower-case words that mean nothing to MJML, HTML or a URL.

    A hidden expression reads ``<prefix>e<n>z``, a hidden statement ``<prefix>s<n>z``.
    """

    def __init__(self, *sources: str | None) -> None:
        everything = "".join(source for source in sources if source).lower()
        number = 0
        while f"mbq{number}" in everything:
            number += 1
        self.prefix = f"mbq{number}x"
        self.pieces: list[Piece] = []
        self.statement = re.compile(rf"{self.prefix}s\d+z")
        self.any = re.compile(rf"{self.prefix}[es](\d+)z(?:=\"\")?")
        self._brace = re.compile(rf"\{{(?=[{{%#]|{self.prefix}|$)")
        self._spots: list[tuple[int, int]] = []

    def hide(self, source: str) -> str:
        """Return ``source`` with a word for every tag."""
        out: list[str] = []
        spots: list[tuple[int, int]] = []
        length = 0
        for piece in split(source):
            word = self.protect(piece.inner) if piece.kind == "text" else self._word(piece)
            spots.append((length, piece.start))
            length += len(word)
            out.append(word)
        self._spots = spots
        return "".join(out)

    def _word(self, piece: Piece) -> str:
        self.pieces.append(piece)
        return f"{self.prefix}{piece.kind[0]}{len(self.pieces) - 1}z"

    def protect(self, text: str) -> str:
        """Return masked ``text`` with every brace that could open a tag hidden as well."""
        return self._brace.sub(lambda _: self._word(Piece("expression", '"{"', 0)), text)

    def show(self, text: str) -> str:
        """Put the tags back."""
        return self.any.sub(lambda match: self.pieces[int(match.group(1))].source, text)

    def lost(self, text: str) -> Piece | None:
        """Return a statement that is no longer in ``text``, if there is one."""
        seen = {int(number) for number in self.any.findall(text)}
        for number, piece in enumerate(self.pieces):
            if piece.kind == "statement" and number not in seen:
                return piece
        return None

    def origin(self, offset: int) -> int:
        """Return where in the last hidden source the masked text's ``offset`` comes from."""
        if not self._spots:
            return offset
        at, start = self._spots[max(0, bisect_right(self._spots, (offset, 1 << 62)) - 1)]
        return start + max(0, offset - at)
