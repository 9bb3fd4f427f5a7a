"""Bytes to text when nobody can be trusted to say how: the declared charset, UTF-8, ISO-2022, the likeliest of the old ones."""

import binascii
import re
from html import unescape

_SAFE = re.compile(
    r"(?:x-)?(?:utf|iso|windows|cp|koi8|us-ascii|ascii|gb|hz|big5|euc|shift|sjis|latin|mac|ks_c|tis|viscii)[\w.:\-]*",
    re.IGNORECASE,
)
_WORD = re.compile(r"=\?([\w.:\-]{2,40})(?:\*[\w-]*)?\?([bBqQ])\?([^?\n]{0,2000})\?=")
_GAP = re.compile(r"(\?=)\s+(=\?)")
_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b(J")
_SILENT = tuple(
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for begin, end in (
        (r"<style\b", r"</style\s*>"),
        (r"<script\b", r"</script\s*>"),
        (r"<head\b", r"</head\s*>"),
        ("<!--", "-->"),
    )
)
_BREAK = re.compile(r"(?i)<(?:br|/?p|/?div|/?tr|/?li|/?h\d|/?table|/?pre|hr)\b[^<>]{0,500}>")
_CELL = re.compile(r"(?i)</t[dh]\b[^<>]{0,500}>")
_TAG = re.compile(r"<(?![^<>\s]{1,128}@)/?[a-zA-Z!][^<>]{0,2000}>")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")


def text_of(data: bytes, charset: str = "") -> str:
    """Return the text of bytes; what cannot be read becomes U+FFFD."""
    escaped = b"\x1b" in data and any(escape in data for escape in _ESCAPES)
    if data.isascii() and not escaped:
        return data.decode("ascii")
    if escaped:
        return data.decode("iso2022_jp_2", "replace")
    name = charset.strip("\"' ").lower()
    if name and name not in {"us-ascii", "ascii", "utf-8"} and _SAFE.fullmatch(name):
        try:
            return data.decode(name, "replace")
        except (LookupError, UnicodeError, ValueError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace") if name == "utf-8" else data.decode(_likeliest(data), "replace")


def _likeliest(data: bytes) -> str:
    high = [byte for byte in data[:4000] if byte >= 0x80]
    letters = sum(chr(byte).isalpha() for byte in data[:4000] if byte < 0x80)
    if len(high) * 2 < letters:
        return "cp1252"  # a few accents among ASCII letters: western
    # Russian written in KOI8-R has its small letters where Windows has the capitals.
    small_koi = sum(0xC0 <= byte <= 0xDF for byte in high)
    small_windows = sum(0xE0 <= byte <= 0xFF for byte in high)
    return "koi8_r" if small_koi > small_windows else "cp1251"


def header_text(value: str) -> str:
    """Return a header's value with its encoded words (RFC 2047) read."""
    if "=?" not in value:
        return value
    return _WORD.sub(_word, _GAP.sub(r"\1\2", value))


def _word(found: re.Match[str]) -> str:
    charset, encoding, content = found.groups()
    raw = content.encode("ascii", "replace")
    data = base64(raw) if encoding in "bB" else binascii.a2b_qp(raw, header=True)
    return text_of(data, charset)


def base64(data: bytes) -> bytes:
    """Return what base64 says, as far as it can be read."""
    clean = _NOT_BASE64.sub(b"", data)
    if len(clean) % 4 == 1:
        clean = clean[:-1]
    try:
        return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))
    except binascii.Error:
        return b""


def without_tags(html: str) -> str:
    """Return the words of a page, a line for each of its blocks."""
    for begin, end in _SILENT:
        html = _without(html, begin, end)
    text = _TAG.sub("", _BREAK.sub("\n", _CELL.sub("  ", html)))
    return unescape(text).replace("\xa0", " ")


def _without(html: str, begin: re.Pattern[str], end: re.Pattern[str]) -> str:
    """Return a page without what stands between two marks; what is never closed stays."""
    kept: list[str] = []
    at = 0
    while (opened := begin.search(html, at)) and (closed := end.search(html, opened.end())):
        kept.append(html[at : opened.start()])
        at = closed.end()
    return " ".join([*kept, html[at:]])
