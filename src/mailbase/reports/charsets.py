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
LOST = 5
"""How many signs of what calls itself UTF-8 may be none."""
_WESTERN = frozenset({"iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252"})
_ASCII = bytes(range(0x80))
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HIGH = re.compile(rb"[\x80-\xff]+")
_KANA_SJIS = re.compile(rb"(?:\x82[\x9f-\xf1]|\x83[\x40-\x96])")
_SILENT = tuple(
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for begin, end in (
        (r"<style\b", r"</style\s*>"),
        (r"<script\b", r"</script\s*>"),
        (r"<head\b", r"</head\s*>"),
        ("<!--", "-->"),
    )
)
_BREAK = re.compile(r"(?i)<(?:br|/?p|/?div|/?tr|/?li|/?h\d|/?table|/?pre|hr)\b[^<>]{0,500}>[ \t]*\n?")
_CELL = re.compile(r"(?i)</t[dh]\b[^<>]{0,500}>")
_TAG = re.compile(r"<(?![^<>\s]{1,128}@)/?[a-zA-Z!][^<>]{0,2000}>")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")


def text_of(data: bytes, charset: str = "") -> str:
    """Return the text of bytes; what cannot be read becomes U+FFFD."""
    if b"\0" in data and charset.strip("\"' ").lower().startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return _wide(data, charset.strip("\"' ").lower())
    escaped = b"\x1b" in data and any(escape in data for escape in _ESCAPES)
    if data.isascii() and not escaped:
        return data.decode("utf-7" if charset.lower().endswith("utf-7") and b"+" in data else "ascii", "replace")
    if escaped:
        return data.decode("iso2022_jp_2", "replace")
    name = charset.strip("\"' ").lower()
    if name in _WESTERN and (likeliest := _likeliest(data)) != "cp1252":
        name = "" if _is_utf8(data) else likeliest  # said by programs that never asked
    if name and name not in {"us-ascii", "ascii", "utf-8"} and _SAFE.fullmatch(name):
        try:
            return data.decode(name, "replace")
        except (LookupError, UnicodeError, ValueError):
            pass
    text = data.decode("utf-8", "replace")
    lost = text.count("\ufffd")
    if not lost or (name == "utf-8" and lost < LOST):
        return text
    return data.decode(_likeliest(data), "replace")


def _wide(data: bytes, name: str) -> str:
    """Return text of two or four bytes a sign."""
    try:
        return data.decode(name, "replace").removeprefix("\ufeff")
    except (LookupError, UnicodeError, ValueError):
        return data.replace(b"\0", b"").decode("utf-8", "replace")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _likeliest(data: bytes) -> str:
    data = data[:4000]
    high = data.translate(None, _ASCII)
    letters = len(data) - len(data.translate(None, _LETTERS))
    eastern = _eastern(data)
    if eastern:
        return eastern
    if len(high) * 2 < letters:
        return "cp1252"  # a few accents among ASCII letters: western
    # Russian written in KOI8-R has its small letters where Windows has the capitals.
    small_koi = len(high) - len(high.translate(None, bytes(range(0xC0, 0xE0))))
    small_windows = len(high) - len(high.translate(None, bytes(range(0xE0, 0x100))))
    return "koi8_r" if small_koi > small_windows else "cp1251"


def _eastern(data: bytes) -> str | None:
    """Return the charset of text whose signs are pairs of bytes, as far as their first bytes tell."""
    runs = _HIGH.findall(data)
    high = sum(map(len, runs))
    if high >= 6 and sum(map(len, _KANA_SJIS.findall(data))) > high // 3:
        return "cp932"
    # A text cut in the middle of a sign has one odd run, the last.
    if high < 6 or any(len(run) % 2 for run in runs[:-1]) or any(min(run) < 0xA1 for run in runs):
        return None
    firsts = [byte for run in runs for byte in run[::2]]
    if sum(byte in {0xA4, 0xA5} for byte in firsts) * 5 > len(firsts):
        return "euc_jp"
    if sum(0xB0 <= byte <= 0xC8 for byte in firsts) * 20 > len(firsts) * 19:
        return "cp949"
    # Chinese has no spaces; Russian words are shorter than this.
    return "gb18030" if high > 10 * len(runs) else None


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
