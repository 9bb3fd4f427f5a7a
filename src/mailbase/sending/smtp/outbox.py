"""The outbox: every letter as a file, for trying things out and for looking at what would have gone out.

``DATA_DIR/outbox/{delivery id}.eml`` is the signed letter exactly as a relay would have got it, below two lines that name its
envelope. Files appear by rename, so a reader never sees half a letter; a letter sent again replaces its file.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mailbase.sending.outcomes import Envelope, OnOutcome, Outcome, stale

BATCH = 64
_NAME = re.compile(r"([1-9][0-9]{0,18})\.eml")


class Kept(msgspec.Struct, frozen=True):
    """A letter in the outbox: its envelope, and the message without the two lines on top."""

    delivery_id: int
    mail_from: str
    rcpt_to: str
    message: bytes


class OutboxTransport:
    """A :class:`~mailbase.sending.dispatch.transport.Transport` into a folder."""

    name: Literal["outbox"] = "outbox"

    def __init__(self, folder: Path) -> None:
        """The folder is made at the first letter, for its owner only."""
        self._folder = folder

    @property
    def capacity(self) -> int:
        """How many letters are written in one go."""
        return BATCH

    def full(self) -> frozenset[str]:
        """Return nobody: a folder has room for all."""
        return frozenset()

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome) -> None:
        """Write the batch; a disk that takes no more stops the outbox, not the letters."""
        for start in range(0, len(batch), BATCH):
            for outcome in await asyncio.to_thread(self._write_all, batch[start : start + BATCH]):
                on_outcome(outcome)

    async def close(self) -> None:
        """Nothing is held open."""

    def _write_all(self, batch: Sequence[Envelope]) -> list[Outcome]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            return [self._refusal(envelope, error) for envelope in batch]
        return [self._write(envelope) for envelope in batch]

    def _write(self, envelope: Envelope) -> Outcome:
        if not envelope.ours():
            return stale(envelope, "outbox")
        envelope.begin()
        part = self._folder / f".{envelope.delivery_id}.{os.getpid()}.part"
        top = f"X-Mailbase-From: {_line(envelope.mail_from)}\r\nX-Mailbase-To: {_line(envelope.rcpt_to)}\r\n".encode()
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                view = memoryview(top + envelope.message)
                while view:
                    view = view[file.write(view) :]
            part.rename(self._folder / f"{envelope.delivery_id}.eml")
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            return self._refusal(envelope, error)
        return Outcome(envelope.delivery_id, "sent", 250, None, "written to the outbox", "outbox")

    def _refusal(self, envelope: Envelope, error: OSError) -> Outcome:
        text = f"the outbox {self._folder} cannot be written: {error.strerror or error}"
        return Outcome(envelope.delivery_id, "relay", 0, None, text, "outbox")


def _line(address: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "", address)


def newest(folder: Path, *, before: int | None = None, limit: int = 50) -> list[int]:
    """Return delivery ids in the outbox, highest first, below ``before``."""
    ids = sorted((number for number in _ids(folder) if before is None or number < before), reverse=True)
    return ids[:limit]


def _ids(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    yield int(match[1])
    except FileNotFoundError:
        return


def read(folder: Path, delivery_id: int) -> Kept | None:
    """Return one letter, or None when there is no such file."""
    try:
        raw = (folder / f"{delivery_id:d}.eml").read_bytes()
    except FileNotFoundError:
        return None
    first, _, rest = raw.partition(b"\r\n")
    second, _, message = rest.partition(b"\r\n")
    return Kept(
        delivery_id,
        first.removeprefix(b"X-Mailbase-From: ").decode("utf-8", "replace"),
        second.removeprefix(b"X-Mailbase-To: ").decode("utf-8", "replace"),
        message,
    )
