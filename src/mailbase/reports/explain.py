"""``mailbase bounces explain``: what files say, one line of JSON a recipient."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from mailbase.reports.examine import examine
from mailbase.reports.mime import LONGEST_MAIL

MANY: Final = 200
"""Fewer files are read sooner than other processes begin."""
AT_ONCE: Final = 32
ENCODER: Final = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True):
    """One recipient of one file."""

    file: str
    recipient: str | None
    cls: str = msgspec.field(name="class")
    reason: str
    status: str | None
    reply: str | None
    suppress: bool


def explain(files: Sequence[str], out: BinaryIO) -> list[str]:
    """Write a line for each recipient the files report on, in their order; ``-`` is standard input. Return what could not be read."""
    failed = []
    for lines, trouble in _told_of_all(files):
        out.write(lines)
        failed += trouble
    out.flush()
    return failed


def _told_of_all(files: Sequence[str]) -> Iterator[tuple[bytes, list[str]]]:
    """Yield what is told of each; many are shared among the cores."""
    cores = os.cpu_count() or 1
    if cores == 1 or len(files) < MANY or "-" in files or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(_told, files)
        return
    # The tables are read here, once, not in each of them.
    examine(b"")
    with ProcessPoolExecutor(cores, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_told, files, chunksize=AT_ONCE)


def _told(file: str) -> tuple[bytes, list[str]]:
    """Return a file's lines, and why it could not be read."""
    try:
        data = _read(file)
    except OSError as error:
        return b"", [f"{file}: {error.strerror or error}"]
    lines = [
        Line(file, found.recipient, found.cls, found.reason, found.status, found.reply, found.suppress)
        for found in examine(data).findings
    ]
    return ENCODER.encode_lines(lines), []


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(LONGEST_MAIL)
    with Path(file).open("rb") as opened:
        return opened.read(LONGEST_MAIL)
