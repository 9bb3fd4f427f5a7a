"""Quoted-printable (RFC 2045 § 6.7) in pieces that can be joined in any order.

Every piece starts and ends at column 0: what does not end with a line break ends with a soft one. So no line depends
on how long a neighbouring value is, and a letter is filled in by joining bytes. The output is also canonical under
DKIM's relaxed body canonicalisation, never needs dot-stuffing, and never begins a line with ``From ``.
"""

import re

SOFT = b"=\r\n"
_WIDTH = 75
_TABLE = [bytes([byte]) if 32 <= byte < 127 and byte != 61 else b"=%02X" % byte for byte in range(256)]
_SPECIAL = re.compile(rb"[^ -<>-~]")
_SPECIAL_OR_BRACE = re.compile(rb"[^ -<>-z|}~]")
_SPACES = re.compile(rb"(?<= ) +")
_SIMPLE = re.compile(r"(?!From )[0-9A-Za-z]+(?:[ -][0-9A-Za-z]+)*")


def _replace(match: re.Match[bytes]) -> bytes:
    return _TABLE[match.group()[0]]


def _replace_brace(match: re.Match[bytes]) -> bytes:
    return b"=%02X" % match.group()[0]


def _more_spaces(match: re.Match[bytes]) -> bytes:
    return b"=20" * len(match.group())


def piece(text: str, *, braces: bool = False) -> bytes:
    """Encode ``text`` as a piece: from column 0 to column 0. An empty text is an empty piece.

    Line ends of any kind become CRLF; surrogates become question marks. ``braces`` encodes ``{`` too, for text that
    goes through the template engine once more.
    """
    if not text:
        return b""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    out: list[bytes] = []
    lines = text.encode(errors="replace").split(b"\n")
    last = len(lines) - 1
    for number, line in enumerate(lines):
        _line(out, line, braces=braces)
        if number < last:
            if out and out[-1] == SOFT:
                out[-1] = b"\r\n"
            else:
                out.append(b"\r\n")
    return b"".join(out)


def simple(text: str) -> bytes | None:
    """Return a short text of plain words as a piece, whether it is HTML or not; None where more is to be done for it."""
    return text.encode() + SOFT if len(text) <= _WIDTH and _SIMPLE.fullmatch(text) else None


def _line(out: list[bytes], line: bytes, *, braces: bool) -> None:
    """Append one line, each of its lines ending with a soft break; an empty line appends nothing."""
    if not line:
        return
    line = _SPECIAL_OR_BRACE.sub(_replace_brace, line) if braces else _SPECIAL.sub(_replace, line)
    line = _SPACES.sub(_more_spaces, line)
    if line[-1] == 32:
        line = line[:-1] + b"=20"
    at = 0
    size = len(line)
    while at < size:
        width = _WIDTH
        first = line[at]
        if first == 46 or (first == 70 and line.startswith(b"From ", at)):
            out.append(b"=%02X" % first)
            at += 1
            width -= 3
        end = at + width
        if end < size:
            if line[end - 1] == 61:
                end -= 1
            elif line[end - 2] == 61:
                end -= 2
        out.append(line[at:end])
        out.append(SOFT)
        at = end


def token(value: str) -> bytes:
    """Encode a URL-safe token as a piece."""
    raw = value.encode()
    if len(raw) <= _WIDTH and raw.replace(b"-", b"").replace(b"_", b"").isalnum():
        return raw + SOFT
    return piece(value)


def end_part(body: bytes) -> bytes:
    """Return a piece as the last of a part that a boundary's CRLF follows."""
    return body.removesuffix(SOFT)


def end_body(body: bytes) -> bytes:
    """Return pieces as a whole body: exactly one CRLF at the end, and something before it."""
    body = body.removesuffix(SOFT).rstrip(b"\r\n")
    if not body or body.endswith(b"="):
        return body + (b"" if not body else b"\r\n") + b"=0D=0A\r\n"
    return body + b"\r\n"
