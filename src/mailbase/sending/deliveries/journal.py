"""The journal: what a worker that dies has already done with the letters it had marked, for those that live on to read.

A mark says that a letter may go out; whether its content began to leave, and what was answered, is in the worker's memory until
it is recorded. A few bytes a letter in a file of the data directory say the same, and outlive the process (not the machine):

    marked ─▶ begun (just before the end of its content is written) ─▶ taken | not taken ─▶ recorded: its place is free again

The file is locked while its worker lives. Whoever gets the lock reads what is left (:func:`left_behind`) and settles it
(:mod:`~mailbase.sending.deliveries.settle`): so of a worker that was killed only what waits for an answer is in doubt. PostgreSQL remains the
only truth: without the file, or after the machine went down, a dead worker's letters are judged by their marks alone.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

FOLDER: Final = "workers"
FENCES: Final = 1024
"""The last so many leases are known; of an older one nothing is."""
LETTERS: Final = 8192
"""Letters whose content began to leave and whose outcome is not recorded yet."""

_HEAD: Final = Struct("<8s32s")
_MAGIC: Final = b"mailbase"
_FENCE: Final = Struct("<Q")
_LETTER: Final = Struct("<QQB7x")  # never across two pages
_FENCES_AT: Final = 64
_LETTERS_AT: Final = 12_288
_STATE: Final = 16
_SIZE: Final = _LETTERS_AT + LETTERS * _LETTER.size

_BEGUN, _TAKEN, _NOT_TAKEN = 1, 2, 3

Key = tuple[int, int]
"""(delivery id, fence)."""


class Journal:
    """One worker's. Where it cannot be written there is none, and everything works as without it."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` None: no journal."""
        self._path = None if folder is None else folder / f"{os.getpid()}-{secrets.token_hex(8)}.journal"
        self._file = -1
        self._map: mmap.mmap | None = None
        self._places: dict[Key, int] = {}
        self._free: list[int] = []
        self._next_fence = 0
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            self._file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.posix_fallocate(self._file, 0, _SIZE)
            # Memory of the kernel's, not ours, once it is written; its room on the disk is taken already.
            self._map = mmap.mmap(self._file, _SIZE)
            _HEAD.pack_into(self._map, 0, _MAGIC, _boot())
            part.rename(self._path)
        except OSError as error:
            self._give_up(error)
        self._free = list(range(_LETTERS_AT, _SIZE, _LETTER.size))

    def hold(self, fence: int) -> None:
        """Note a lease."""
        if self._map is None:
            return
        _FENCE.pack_into(self._map, _FENCES_AT + self._next_fence * _FENCE.size, fence)
        self._next_fence = (self._next_fence + 1) % FENCES

    def begin(self, delivery_id: int, fence: int) -> None:
        """Note that the other side may have the whole letter from now on. To be called before that is so."""
        if self._map is None:
            return
        key = (delivery_id, fence)
        place = self._places.get(key)
        if place is None:
            if not self._free:
                self._give_up("it is full")
                return
            place = self._places[key] = self._free.pop()
        # All of it is cleared first, and the state is written last: killed in between, there is no such letter.
        _LETTER.pack_into(self._map, place, delivery_id, fence, _BEGUN)

    def answered(self, delivery_id: int, fence: int, *, taken: bool) -> None:
        """Note whether the other side took a letter, where its word is known."""
        place = self._places.get((delivery_id, fence))
        if place is not None and self._map is not None:
            self._map[place + _STATE] = _TAKEN if taken else _NOT_TAKEN

    def forget(self, keys: Iterable[Key]) -> None:
        """Note that outcomes are recorded. What the file says of them does no harm: their rows have moved on."""
        for key in keys:
            place = self._places.pop(key, None)
            if place is not None:
                self._free.append(place)

    def close(self) -> None:
        """Leave nothing behind, unless something is not recorded yet."""
        if self._map is None:
            return
        if not self._places and self._path is not None:
            self._path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        """Let go of the file and its lock."""
        if self._map is not None:
            self._map.close()
        self._map = None
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _give_up(self, why: object) -> None:
        """Take the journal away: one with a gap in it would be worse than none."""
        log.warning("no journal is kept, so a crash leaves more letters in doubt: %s", why)
        if self._map is not None:
            # First of all, so that nobody believes it should it stay.
            self._map[: _HEAD.size] = bytes(_HEAD.size)
        self._release()
        self._places.clear()
        for path in (self._path, self._path and self._path.with_suffix(".part")):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


class Left(NamedTuple):
    """What a dead worker's journal says."""

    fences: list[int]
    begun: set[Key]
    """Their content may be with the other side, which has not answered."""
    taken: set[Key]


def found(folder: Path) -> list[Path]:
    """Return the journals there are, the living's too."""
    try:
        return sorted(folder.glob("*.journal"))
    except OSError:
        return []


@contextlib.contextmanager
def left_behind(path: Path) -> Iterator[Left | None]:
    """Lend what a dead worker left, under its lock, and remove it once that is settled; None: its worker lives, or it says nothing."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        if not _ours(file):
            yield None
            return
        yield read(os.pread(file, _SIZE, 0))
        path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _ours(file: int) -> bool:
    """Lock a journal; False where its worker lives, or somebody else settled it between our looking and our lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(file).st_nlink > 0


def set_aside(path: Path) -> None:
    """Let nobody try again what cannot be settled; it is kept to be looked at."""
    with contextlib.suppress(OSError):
        path.rename(path.with_suffix(".unsettled"))


def read(data: bytes) -> Left | None:
    """Return what a journal's bytes say; None where the machine has been down since, or it was given up."""
    if len(data) < _SIZE or _HEAD.unpack_from(data) != (_MAGIC, _boot()):
        return None
    fences = [fence for (fence,) in _FENCE.iter_unpack(data[_FENCES_AT : _FENCES_AT + FENCES * _FENCE.size]) if fence]
    begun: set[Key] = set()
    taken: set[Key] = set()
    for delivery_id, fence, state in _LETTER.iter_unpack(data[_LETTERS_AT:]):
        if state == _BEGUN:
            begun.add((delivery_id, fence))
        elif state == _TAKEN:
            taken.add((delivery_id, fence))
    return Left(fences, begun, taken)


def _boot() -> bytes:
    """Return what tells one start of this machine from another (random(4)); where nothing says so, what equals nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().replace(b"-", b"").strip()[:32]
    except OSError:
        return secrets.token_hex(16).encode()
