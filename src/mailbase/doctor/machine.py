"""The machine: space, clock, and the files in the data directory."""

import asyncio
import os
import shutil
import stat
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from mailbase.doctor.findings import About, Finding

LITTLE: Final = 5 << 30
TOO_LITTLE: Final = 1 << 30
SECRETS: Final = ("secret.key", "admin.key", "postgres.password")
OFF: Final = timedelta(seconds=5)
FAR_OFF: Final = timedelta(minutes=5)
"""DKIM signatures and TLS certificates carry times; receivers allow a few minutes."""
EPOCH_1900: Final = 2_208_988_800
TIME_SERVER: Final = ("pool.ntp.org", 123)

_CLOCK: Final = About("clock")
_DISK: Final = About("disk")
_FILES: Final = About("files")


class Space(NamedTuple):
    """As :func:`shutil.disk_usage` tells it, in bytes."""

    total: int
    used: int
    free: int


def disk(folder: Path, usage: Callable[[Path], Space] = lambda folder: Space(*shutil.disk_usage(folder))) -> Finding:
    """Say whether there is room: a full disk stops the database, and the database stops everything."""
    free = usage(folder).free
    text = f"{free / (1 << 30):.1f} GB are free where {folder} is."
    advice = "Make room, or move the data directory (MAILBASE_DATA_DIR); when it is full nothing is sent or recorded."
    if free < TOO_LITTLE:
        return _DISK.wrong("disk", text, advice)
    return _DISK.warning("disk", text, advice) if free < LITTLE else _DISK.ok("disk", text)


def files(folder: Path, *, may: Callable[[Path, int], bool] = os.access) -> list[Finding]:
    """Say whether what mailbase keeps can be read and written by it, and its secrets by nobody else."""
    if not folder.is_dir():
        return [
            _FILES.wrong(
                "data_dir", f"There is no folder {folder}.", "Start `mailbase up` once, or set MAILBASE_DATA_DIR."
            )
        ]
    found: list[Finding] = []
    for place in (folder, folder / "outbox"):
        if place.exists() and not may(place, os.R_OK | os.W_OK | os.X_OK):
            advice = f"Give it to the user that runs mailbase: chown -R USER {place}"
            found.append(_FILES.wrong("data_dir", f"{place} cannot be written by this user.", advice))
    for name in SECRETS:
        file = folder / name
        if not file.exists():
            continue
        if not may(file, os.R_OK):
            advice = f"Give it to the user that runs mailbase: chown USER {file}"
            found.append(_FILES.wrong("secrets", f"{file} cannot be read by this user.", advice))
        elif stat.S_IMODE(file.stat().st_mode) & 0o077:
            found.append(_FILES.wrong("secrets", f"Others on this machine can read {file}.", f"chmod 600 {file}"))
    return found or [_FILES.ok("files", f"{folder} can be read and written, its secrets by nobody else.")]


def clock(whose: str, offset: timedelta) -> Finding:
    """Say whether a clock agrees with this machine's."""
    off = abs(offset)
    check = "clock"
    text = f"{whose[0].upper()}{whose[1:]} is {off.total_seconds():.1f} s {'ahead of' if offset > timedelta() else 'behind'} this machine's."
    advice = "Let the machines set their clocks by the network (timedatectl set-ntp true)."
    if off > FAR_OFF:
        return _CLOCK.wrong(check, text, advice)
    return _CLOCK.warning(check, text, advice) if off > OFF else _CLOCK.ok(check, f"It agrees with {whose}.")


def unknown_clock(whose: str) -> Finding:
    """Say that a clock could not be asked: nothing is wrong with that."""
    return _CLOCK.ok(
        "clock", f"{whose[0].upper()}{whose[1:]} could not be asked; on a machine without the network that is no harm."
    )


async def network_offset(
    server: tuple[str, int] = TIME_SERVER, *, now: Callable[[], float] = time.time, patience: float = 3
) -> timedelta | None:
    """Return how far a time server is ahead of this machine (SNTP, RFC 4330), or None when it does not answer."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[bytes, float]] = loop.create_future()
    try:
        async with asyncio.timeout(patience):
            transport, _ = await loop.create_datagram_endpoint(lambda: _Sntp(answer, now), remote_addr=server)
            try:
                sent = now()
                transport.sendto(struct.pack("!B39x8s", 0x23, os.urandom(8)))
                data, received = await answer
            finally:
                transport.close()
    except (OSError, TimeoutError):
        return None
    if len(data) < 48 or data[0] & 7 != 4 or not 1 <= data[1] <= 15:
        return None
    arrived, left = (
        seconds - EPOCH_1900 + part / (1 << 32)
        for seconds, part in (struct.unpack_from("!II", data, at) for at in (32, 40))
    )
    return timedelta(seconds=((arrived - sent) + (left - received)) / 2)


class _Sntp(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[tuple[bytes, float]], now: Callable[[], float]) -> None:
        self._answer = answer
        self._now = now

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  (asyncio's shape)
        if not self._answer.done():
            self._answer.set_result((data, self._now()))

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(OSError(str(exc)))


def utc_now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)
