"""CSV as it comes: UTF-8 with or without a byte-order mark, comma, semicolon or tab, any line end, in slices of any size.

``Records`` is fed bytes and gives whole records back with the number of the line each one starts at. A record may span lines inside
quotes; a stray quote costs at most a stretch of ``LONGEST`` characters before the next record is looked for again.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import Final

DELIMITERS: Final = (",", ";", "\t")
LONGEST: Final = 1 << 20
SURROGATE: Final = re.compile("[\udc80-\udcff]")
NOT_UTF8: Final = "not valid UTF-8"
OPEN_QUOTE: Final = "a quote that does not end: the lines after it were not read"
RISKY: Final = ("=", "+", "-", "@", "\t", "\r")

Record = tuple[int, list[str], str | None]
"""Line number from 1, the cells, and what is wrong with it as a whole."""


def detect(header: str) -> str:
    """Return the delimiter of a header line: the one of the three that splits it most often; a comma when none does."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


class Records:
    """Turns slices of a file into records."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._rest = ""
        self._lines = 0
        self.delimiter: str | None = None

    def feed(self, data: bytes, *, final: bool = False) -> list[Record]:
        """Return the records that are complete now; ``final`` gives out what is left."""
        text = self._rest + self._decoder.decode(data, final)
        # A lone carriage return at the end may be half of a line end.
        cut = len(text) if final else _boundary(text)
        if cut == 0 and len(text) > LONGEST:
            cut = text.rfind("\n") + 1 or len(text)
        whole, self._rest = text[:cut], text[cut:]
        return list(self._read(whole)) if whole else []

    def _read(self, text: str) -> Iterator[Record]:
        lines = io.StringIO(text, newline="")
        if self.delimiter is None:
            self.delimiter = detect(lines.readline())
            lines.seek(0)
        suspicious = SURROGATE.search(text) is not None
        reader = csv.reader(lines, delimiter=self.delimiter)
        base, start, place = self._lines, 0, 0
        while True:
            wrong = None
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error:
                cells, wrong = [], "not readable as CSV (a quote that does not end, or a cell over 128 kB)"
            if suspicious and any(SURROGATE.search(cell) for cell in cells):
                wrong = NOT_UTF8
            begin, place = place, lines.tell()
            if place == len(text) and wrong is None and self._open(text[begin:]):
                wrong = OPEN_QUOTE
            if cells or wrong:
                yield base + start + 1, cells, wrong
            start = reader.line_num
        self._lines = base + start

    def _open(self, record: str) -> bool:
        # Only inside a quote does a line of its own become part of the record before it.
        *_, last = csv.reader(io.StringIO(f"{record}\nnext", newline=""), delimiter=self.delimiter or ",")
        return last != ["next"]


def _boundary(text: str) -> int:
    """Return where the last complete record ends: after a line end that an even number of quotes stands before."""
    odd = text.count('"') % 2
    end = len(text)
    while True:
        newline = text.rfind("\n", 0, end)
        if newline < 0:
            return 0
        odd ^= text.count('"', newline, end) % 2
        if not odd:
            return newline + 1
        end = newline


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: an apostrophe goes before ``= + - @``, unless it is a plain number."""
    if cell.startswith(RISKY) and not re.fullmatch(r"[+-][0-9][0-9 ().\-]*", cell):
        return f"'{cell}"
    return f"'{cell}" if cell != plain(cell) else cell


def plain(cell: str) -> str:
    """Return what a cell was before ``safe``, so that a file of ours can come back in."""
    return (
        cell[1:]
        if cell.startswith("'") and cell[1:].startswith((*RISKY, "'")) and cell.lstrip("'").startswith(RISKY)
        else cell
    )
