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


def split(source: str) -> list[Piece]:
    """Cut a template MiniJinja has accepted into its pieces.

    Comments are gone, ``raw`` blocks are text, trims (``{{-``, ``-%}``) are already applied to the text beside them.
    """
    pieces: list[Piece] = []
    at = 0
    trim = False

    def text(value: str, start: int) -> None:
        if value:
            if pieces and pieces[-1].kind == "text":
                pieces[-1].inner += value
            else:
                pieces.append(Piece("text", value, start))

    while at < len(source):
        match = _OPEN.search(source, at)
        start = match.start() if match else len(source)
        literal = source[at:start]
        if trim:
            literal = literal.lstrip()
        body = start + 2
        sign = source[body : body + 1]
        if match and sign in {"-", "+"}:
            body += 1
            if sign == "-":
                literal = literal.rstrip()
        text(literal, at)
        if not match:
            break
        if match.group() == "{#":
            close = source.find("#}", body)
            close = len(source) if close < 0 else close
            trim = close > body and source[close - 1] == "-"
            at = close + 2
            continue
        closer = "}}" if match.group() == "{{" else "%}"
        close = _end(source, body, closer)
        inner = source[body:close]
        signed = source[close : close + 1] in {"-", "+"}
        trim = source[close : close + 1] == "-"
        at = close + 2 + signed
        if closer == "%}" and _RAW.fullmatch(inner):
            ending = _ENDRAW.search(source, at)
            raw = source[at : ending.start() if ending else len(source)]
            raw = raw.lstrip() if trim else raw
            raw = raw.rstrip() if ending and ending.group(1) == "-" else raw
            text(raw, at)
            trim = bool(ending and ending.group(2) == "-")
            at = ending.end() if ending else len(source)
            continue
        pieces.append(Piece("expression" if closer == "}}" else "statement", inner.strip(), start))
    return pieces


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
