"""``mailbase bounces explain``: what files say, one line of JSON a recipient."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from mailbase.reports.examine import examine
from mailbase.reports.mime import LONGEST_MAIL


class Line(msgspec.Struct, frozen=True):
    """One recipient of one file."""

    file: str
    recipient: str | None
    cls: str = msgspec.field(name="class")
    reason: str
    status: str | None
    reply: str | None
    suppress: bool


def explain(files: Iterable[str], out: BinaryIO) -> list[str]:
    """Write a line for each recipient the files report on; ``-`` is standard input. Return what could not be read."""
    encode = msgspec.json.Encoder().encode
    failed = []
    for file in files:
        try:
            data = _read(file)
        except OSError as error:
            failed.append(f"{file}: {error.strerror or error}")
            continue
        for found in examine(data).findings:
            line = Line(file, found.recipient, found.cls, found.reason, found.status, found.reply, found.suppress)
            out.write(encode(line) + b"\n")
    out.flush()
    return failed


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(LONGEST_MAIL)
    with Path(file).open("rb") as opened:
        return opened.read(LONGEST_MAIL)
