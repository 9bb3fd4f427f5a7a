"""Templates that could grow are rendered by a process of their own, which may use little memory and little time, and may die of it.

parent ── {maker, key, source?, variables} ──▶ child   ``letters.sandboxed``, started at the first such template, ended with its parent
       ◀── {"text"} | {"detail", "line", …} ──         nothing comes back: it is dead, a new one is started for the next template

What a template may need cannot be told from its words (it multiplies what it is given), and its engine counts steps, not bytes.
"""

import atexit
import json
import os
import select
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2s
from threading import Lock
from time import monotonic
from typing import Any, Final

from minijinja import Environment, Markup

MEMORY: Final = 64 * 1024 * 1024
"""Bytes a rendering may take beside what the idle process holds."""
CPU_SECONDS: Final = 0.5
WAIT_SECONDS: Final = 30.0
"""The machine may be busy; only time on a processor counts as the template's."""
STRIKES: Final = 3
"""A template that has killed so many children is not rendered by this process again."""
REMEMBERED: Final = 1000
GROWN: Final = 16 * 1024 * 1024
"""A child that holds so much more than at first is replaced, so that each template finds the same room."""
PASSED_ON: Final = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
"""Of the environment; the rest may hold secrets, and is no template's business."""
KEPT: Final = 64
KEPT_SOURCES: Final = 1024 * 1024
HEADER: Final = struct.Struct(">I")
LARGEST_ANSWER: Final = 32 * 1024 * 1024
TOO_MUCH: Final = "this takes too much memory or time"


class Failure(Exception):
    """A template failed in the sandbox: the engine's own words, and where (``range`` in bytes of the source)."""

    def __init__(
        self, detail: str, *, line: int | None = None, range: tuple[int, int] | None = None, kind: str = ""
    ) -> None:
        super().__init__(detail)
        self.detail = self.message = detail
        self.line = line
        self.range = range
        self.kind = kind


class _Died(Exception):
    """The child is gone, or does not answer."""


class Sandbox:
    """One child, started when it is needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._known: set[str] = set()
        self._strikes: OrderedDict[str, int] = OrderedDict()

    def render(self, maker: Callable[[], Environment], source: str, name: str, variables: Mapping[str, Any]) -> str:
        """Return what a template makes of ``variables`` (plain JSON values; those at the top may be ``Markup``).

        Raises:
            Failure: it failed, or would have taken too much.

        """
        return str(self._ask(maker, source, name, variables)["text"])

    def compile(self, maker: Callable[[], Environment], source: str, name: str) -> None:
        """Only compile a template: constants are multiplied then.

        Raises:
            Failure: it failed, or would have taken too much.

        """
        self._ask(maker, source, name, None)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        self._known.clear()
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _ask(
        self, maker: Callable[[], Environment], source: str, name: str, variables: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        made_by = f"{maker.__module__}:{maker.__qualname__}"
        key = blake2s(f"{made_by}\0{name}\0{source}".encode(errors="surrogatepass"), digest_size=16).hexdigest()
        question: dict[str, Any] = {"maker": made_by, "name": name, "key": key, "variables": variables}
        question["safe"] = [name for name, value in (variables or {}).items() if isinstance(value, Markup)]
        with self._lock:
            if self._strikes.get(key, 0) >= STRIKES:
                raise Failure(TOO_MUCH)
            try:
                answer = self._exchange(question if key in self._known else {**question, "source": source})
                if "unknown" in answer:
                    answer = self._exchange({**question, "source": source})
            except _Died:
                self.close()
                self._strikes[key] = self._strikes.get(key, 0) + 1
                if len(self._strikes) > REMEMBERED:
                    self._strikes.popitem(last=False)
                raise Failure(TOO_MUCH) from None
            if "last" in answer:
                self.close()
            if "detail" in answer:
                where = answer["range"]
                raise Failure(
                    answer["detail"], line=answer["line"], range=tuple(where) if where else None, kind=answer["kind"]
                )
            if self._child is not None:
                self._known.add(key)
            return answer

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._owner != os.getpid():  # a fork: the child is another's
            self._child, self._owner = None, os.getpid()
            self._known.clear()
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _start()
        assert self._child.stdin is not None and self._child.stdout is not None  # noqa: S101, PT018  (both are pipes)
        body = json.dumps(question, default=dict).encode()
        until = monotonic() + WAIT_SECONDS
        try:
            _write(self._child.stdin.fileno(), HEADER.pack(len(body)) + body, until)
            (length,) = HEADER.unpack(_read(self._child.stdout.fileno(), HEADER.size, until))
            answer: dict[str, Any] = json.loads(_read(self._child.stdout.fileno(), length, until))
        except OSError:
            raise _Died from None
        except BaseException:
            self.close()  # an answer half read would be taken for the next one's
            raise
        return answer


def _start() -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-m", "mailbase.letters.sandboxed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        start_new_session=True,  # a Ctrl-C is its parent's business
    )
    assert child.stdin is not None  # noqa: S101  (a pipe)
    os.set_blocking(child.stdin.fileno(), False)
    return child


def _write(fd: int, data: bytes, until: float) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            _wait(fd, select.POLLOUT, until)


def _read(fd: int, length: int, until: float) -> bytes:
    found = bytearray()
    if length > LARGEST_ANSWER:
        raise _Died
    while len(found) < length:
        _wait(fd, select.POLLIN, until)
        chunk = os.read(fd, min(length - len(found), 1 << 20))
        if not chunk:
            raise _Died
        found += chunk
    return bytes(found)


def _wait(fd: int, event: int, until: float) -> None:
    waiting = select.poll()
    waiting.register(fd, event)
    if not waiting.poll(max(0, (until - monotonic()) * 1000)):
        raise _Died


SANDBOX: Final = Sandbox()
"""This process's own."""
atexit.register(SANDBOX.close)
