"""A reader of mail that forgives everything: missing boundaries, mixed line ends, headers that stop in the middle.

The standard library's parser takes several times as long and gives up where bounces get interesting.
"""

import binascii
import re

from mailbase.reports.charsets import base64, header_text, text_of, without_tags

LONGEST_MAIL = 2_000_000
LONGEST_TEXT = 300_000
"""More than anybody looks at."""
LONGEST_HEAD = 128_000
LONGEST_FIELD = 16_000
MOST_PARTS = 64
DEEPEST = 8

RETURNED = frozenset(
    {
        "message/rfc822",
        "message/global",
        "text/rfc822-headers",
        "message/rfc822-headers",
        "text/rfc822",
        "message/global-headers",
        "text/global-headers",
    }
)

_FIELD = re.compile(rb"^([!-9;-~]{1,76})[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_BEGINS = re.compile(rb"[!-9;-~]{1,76}[ \t]*:")
_HEAD_END = re.compile(rb"\n[ \t]*\n")
_FOLD = re.compile(r"\n[ \t]+")
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"\n]{1,200})\"?|'([^'\n]{1,200})'|([^\s;]{1,200}))", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*\*?=\s*\"?'?([\w.:\-]{1,40})", re.IGNORECASE)
_LIKE_BOUNDARY = re.compile(rb"\n--([^\s-][^\n]{3,98}?)[ \t]*\n(?=(?i:content-[a-z\-]{3,30}[ \t]*:))")


class Part:
    """One part of a mail, or the whole mail: its headers, its content undone, its parts."""

    __slots__ = ("_text", "body", "fields", "kind", "parts", "type_line")

    def __init__(self, fields: dict[str, list[str]], body: bytes) -> None:
        self.fields = fields
        """Names in lower case; values unfolded, encoded words still encoded."""
        self.type_line = self.first("content-type")
        kind = self.type_line.partition(";")[0].strip().lower()
        self.kind = "text/plain" if kind in {"text", "plain", "txt"} else kind  # as before MIME
        self.body = body
        self.parts: list[Part] = []
        self._text: str | None = None

    def first(self, name: str) -> str:
        """Return the first value of a header, decoded; empty when there is none."""
        values = self.fields.get(name)
        return header_text(values[0]).strip() if values else ""

    def all(self, *names: str) -> list[str]:
        """Return every value of these headers, decoded."""
        return [header_text(value).strip() for name in names for value in self.fields.get(name, ())]

    @property
    def content(self) -> bytes:
        """The body with its transfer encoding undone."""
        encoding = self.first("content-transfer-encoding").lower()
        if encoding.startswith("base64"):
            return base64(self.body)
        if encoding.startswith("quoted"):
            return binascii.a2b_qp(self.body)
        return self.body

    @property
    def text(self) -> str:
        """The words of this part alone; an HTML page's without its tags."""
        if self._text is None:
            charset = _CHARSET.search(self.type_line)
            text = (
                text_of(self.content[:LONGEST_TEXT], charset[1] if charset else "")
                .replace("\r\n", "\n")
                .replace("\r", "\n")
            )
            html = self.kind == "text/html" or (
                text[:200].lstrip()[:9].lower() in {"<!doctype", "<html><he"}
                or text[:200].lstrip()[:6].lower() == "<html>"
            )
            self._text = without_tags(text) if html else text
        return self._text

    def walk(self) -> "list[Part]":
        """Return this part and all within it, in order; not those of returned letters."""
        found = [self]
        for part in self.parts:
            found += part.walk()
        return found


def read(data: bytes) -> Part:
    """Return a mail's parts; any bytes are a mail."""
    data = data[:LONGEST_MAIL]
    if b"\r" in data:
        if b"\r\r\n" in data:
            data = data.replace(b"\r\r\n", b"\n")
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        data = data.replace(b"\0", b"")
    return _read(data.lstrip(b"\n"), [MOST_PARTS], 0)


def headers(data: bytes) -> tuple[dict[str, list[str]], bytes]:
    r"""Return (fields, what follows them); line ends are ``\n``."""
    while data.startswith((b"From ", b">From ")):
        data = data.partition(b"\n")[2]
    if not _BEGINS.match(data):
        if data.startswith(b"\n"):
            return {}, data[1:]
        # A stray line before the headers is no reason to lose them.
        after = data[:LONGEST_HEAD].partition(b"\n")[2]
        if not _BEGINS.match(after):
            return {}, data
        data = after
    end = _HEAD_END.search(data, 0, LONGEST_HEAD)
    head, body = (data[: end.start()], data[end.end() :]) if end else (data[:LONGEST_HEAD], data[LONGEST_HEAD:])
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall(head):
        written = text_of(value[:LONGEST_FIELD])
        fields.setdefault(name.decode("ascii").lower(), []).append(
            _FOLD.sub(" ", written) if "\n" in written else written
        )
    return fields, body


def _read(data: bytes, left: list[int], depth: int) -> Part:
    left[0] -= 1
    fields, body = headers(data)
    part = Part(fields, body)
    if depth >= DEEPEST or part.kind in RETURNED:
        return part
    if part.kind.startswith("multipart/") or (depth == 0 and b"\n--" in b"\n" + body[:20_000]):
        for piece in _split(part):
            if left[0] <= 0:
                break
            part.parts.append(_read(piece, left, depth + 1))
    return part


def _split(part: Part) -> list[bytes]:
    body = b"\n" + part.body
    said = _BOUNDARY.search(part.type_line)
    mark = (said[1] or said[2] or said[3]).strip().encode("utf-8", "replace") if said else b""
    if not mark or b"\n--" + mark not in body:
        guess = _LIKE_BOUNDARY.search(body)
        if guess is None:
            return []
        mark = guess[1].removesuffix(b"--")
    pieces = body.split(b"\n--" + mark)
    found: list[list[bytes]] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            break
        line, _, content = piece.partition(b"\n")
        if not line.strip():
            found.append([content])
        elif found:
            # The boundary of a part within begins with this one.
            found[-1] += [b"\n--", mark, piece]
    return [b"".join(part) for part in found]
