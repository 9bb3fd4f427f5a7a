"""A mail server that misbehaves by a seeded plan, in a process of its own, and never forgets what it took.

``python tests/chaos/rough_sink.py --log FILE --pace FILE --seed N`` prints its port. Each final dot is one line of the log, written
before the answer: ``time TAB recipient TAB Message-ID TAB what``. ``time`` is CLOCK_MONOTONIC; ``what`` is one of

==========  ==========================================================
``kept``    taken, and so it was answered
``last``    the same, and the connection closed right behind the answer, which may be lost with it
``mute``    taken, but the connection went before the answer, or in it
``lost``    not taken: the connection went in place of an answer
``refused`` answered 4xx or 5xx
==========  ==========================================================

``pace`` is a file of one double: how many seconds each letter's verdict takes just now.
"""

import argparse
import asyncio
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

MESSAGE_ID = re.compile(rb"^Message-ID:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
EHLO = b"250-rough.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
LATE = 3.0

BY_CONNECTION = {
    "drop-greeting": 1,
    "421-greeting": 1,
    "drop-ehlo": 1,
    "421-ehlo": 1,
}
BY_LETTER = {
    "drop-mail": 4,
    "421-mail": 4,
    "451-mail": 1,
    "drop-rcpt": 8,
    "421-rcpt": 6,
    "450-rcpt": 8,
    "451-rcpt": 8,
    "452-rcpt": 8,
    "550-rcpt": 8,
    "554-rcpt": 4,
    "drop-data": 8,
    "421-data": 4,
    "451-data": 6,
    "554-data": 4,
    "drop-content": 8,
    "drop-dot": 8,
    "421-dot": 6,
    "451-dot": 6,
    "452-dot": 6,
    "550-dot": 4,
    "552-dot": 4,
    "554-dot": 4,
    "mute-dot": 8,
    "half-dot": 6,
    "late-dot": 6,
    "drop-after": 8,
}
"""Faults and their weights: what happens, and at which step."""
TEXTS = {
    b"421": b"421 4.3.2 closing the channel",
    b"450": b"450 4.2.0 come back later",
    b"451": b"451 4.3.0 something is wrong here for the moment",
    b"452": b"452 4.2.2 the mailbox is full for the moment",
    b"550": b"550 5.1.1 no such user here",
    b"552": b"552 5.2.2 the mailbox is full",
    b"554": b"554 5.6.0 this content is not taken",
}
SHARES = (0.16, 0.06, 0.02)
"""Of so many letters something happens at the first, the second, a later time."""
OF_CONNECTIONS = 0.03


class Taken(NamedTuple):
    """One final dot."""

    at: float
    recipient: str
    message_id: str
    what: str


class Plan:
    """What happens to whom: the same for the same seed."""

    def __init__(self, seed: int, share: float) -> None:
        self.seed = seed
        self.share = share
        self.times: Counter[bytes] = Counter()
        self.connections = 0

    def _draw(self, *what: object) -> tuple[float, float]:
        digest = blake2b(repr((self.seed, *what)).encode(), digest_size=16).digest()
        return tuple(number / 2**64 for number in struct.unpack("QQ", digest))

    @staticmethod
    def _pick(faults: dict[str, int], at: float) -> str:
        return list(faults)[bisect_right(list(accumulate(faults.values())), at * sum(faults.values()))]

    def connection(self) -> str:
        """Return what happens to the next connection."""
        self.connections += 1
        happens, which = self._draw("connection", self.connections)
        return self._pick(BY_CONNECTION, which) if happens < OF_CONNECTIONS * self.share else ""

    def letter(self, sender: bytes) -> str:
        """Return what happens to the next letter from this envelope sender, or of this recipient."""
        self.times[sender] += 1
        happens, which = self._draw(sender, self.times[sender])
        share = SHARES[min(self.times[sender], len(SHARES)) - 1]
        return self._pick(BY_LETTER, which) if happens < share * self.share else ""


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, plan: Plan, log: int, faults: int, pace: mmap.mmap) -> None:
        self.plan = plan
        self.faults = faults
        self.log = log
        self.pace = pace
        self.buffer = b""
        self.content = self.held = self.closing = False
        self.recipient = b""
        self.fault = ""
        self.named = self.sender = False
        self.letters = 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.welcome = self.plan.connection()
        self.number = self.plan.connections
        if not self.happens(self.welcome, "greeting", []):
            transport.write(b"220 rough.example ESMTP\r\n")

    def happens(self, fault: str, step: str, out: list[bytes]) -> bool:
        """Let a fault happen if this is its step."""
        kind, _, where = fault.partition("-")
        if where != step:
            return False
        self.count(fault)
        if kind in {"drop", "mute", "half"}:
            self.end(out + ([b"25"] if kind == "half" else []))
        else:
            out.append(TEXTS[kind.encode()] + b"\r\n")
            if kind == "421":
                self.end(out)
            elif step == "greeting":
                self.transport.write(b"".join(out))
        return True

    def count(self, fault: str) -> None:
        """Write down that a fault happened."""
        os.write(self.faults, fault.encode() + b"\n")

    def end(self, out: list[bytes]) -> None:
        """Say what is left to say, and drop the connection."""
        self.closing = True
        if out:
            self.transport.write(b"".join(out))
            out.clear()
            self.transport.close()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.buffer += data
        if not self.held:
            self.go_on([])

    def go_on(self, out: list[bytes]) -> None:
        """Answer what can be answered; while a verdict is held back nothing behind it is."""
        self.held = False
        while not self.held and not self.closing:
            if self.content and self.fault == "drop-content" and self.buffer:
                # The dot may have been on its way with it.
                self.count(self.fault)
                self.note(self.buffer, "lost")
                self.end(out)
                break
            if self.content and self.buffer.startswith(b".\r\n"):
                # The lone dot of a letter that was refused before.
                self.content, self.buffer = False, self.buffer[3:]
                out.append(b"554 5.5.1 nobody was named\r\n")
                continue
            end = self.buffer.find(b"\r\n.\r\n" if self.content else b"\r\n")
            if end < 0:
                break
            head, self.buffer = self.buffer[:end], self.buffer[end + (5 if self.content else 2) :]
            if self.content:
                self.content = False
                self.dot(head, out)
            else:
                self.command(head, out)
        if out and not self.transport.is_closing():
            self.transport.write(b"".join(out))

    def command(self, line: bytes, out: list[bytes]) -> None:
        """Answer a command."""
        answer = getattr(self, f"on_{line[:4].decode('ascii', 'replace').lower()}", None)
        if answer is None:
            out.append(b"250 2.0.0 ok\r\n")
        else:
            answer(line, out)

    def on_ehlo(self, _line: bytes, out: list[bytes]) -> None:
        if not self.happens(self.welcome, "ehlo", out):
            out.append(EHLO)

    def on_mail(self, _line: bytes, out: list[bytes]) -> None:
        self.named = self.sender = False
        self.letters += 1
        fault = self.plan.letter(b"%d/%d" % (self.number, self.letters))
        if not self.happens(fault, "mail", out):
            self.sender = True
            out.append(b"250 2.1.0 ok\r\n")

    def on_rcpt(self, line: bytes, out: list[bytes]) -> None:
        self.fault = ""
        if not self.sender:
            out.append(b"503 5.5.1 say who you are first\r\n")
            return
        self.recipient = line[line.index(b"<") + 1 : line.index(b">")]
        self.fault = self.plan.letter(self.recipient)
        if not self.happens(self.fault, "rcpt", out):
            self.named = True
            out.append(b"250 2.1.5 ok\r\n")

    def on_data(self, _line: bytes, out: list[bytes]) -> None:
        # Some servers ask for the content although they have refused everybody.
        if not self.named and self.fault != "554-rcpt":
            out.append(b"503 5.5.1 name somebody first\r\n")
        elif not self.happens(self.fault, "data", out):
            self.content = True
            out.append(b"354 go on\r\n")

    def on_quit(self, _line: bytes, out: list[bytes]) -> None:
        self.end([*out, b"221 2.0.0 bye\r\n"])

    def dot(self, content: bytes, out: list[bytes]) -> None:
        """Decide about a letter whose end has come."""
        kind, _, where = self.fault.partition("-")
        what = "last" if where == "after" else "kept"
        if where == "dot" and kind != "late":
            what = {"drop": "lost", "mute": "mute", "half": "mute"}.get(kind, "refused")
        self.note(content, what)
        answer: list[bytes] = []
        wait = LATE if self.fault == "late-dot" else struct.unpack("d", self.pace[:8])[0]
        if wait:
            self.held = True
            if out:
                self.transport.write(b"".join(out))
                out.clear()
            asyncio.get_running_loop().call_later(wait, self.verdict, answer)
        else:
            self.verdict(out, go_on=False)

    def note(self, content: bytes, what: str) -> None:
        """Write a line of the log."""
        found = MESSAGE_ID.search(content)
        line = b"%.6f\t%b\t%b\t%b\n" % (time.monotonic(), self.recipient, found[1] if found else b"-", what.encode())
        os.write(self.log, line)

    def verdict(self, out: list[bytes], *, go_on: bool = True) -> None:
        """Say the verdict, or do not."""
        if self.transport.is_closing():
            return
        if self.fault in {"late-dot", "drop-after"}:
            self.count(self.fault)
        if self.fault == "late-dot" or not self.happens(self.fault, "dot", out):
            out.append(b"250 2.0.0 taken\r\n")
        if self.fault == "drop-after" and not self.closing:
            self.end(out)
        if go_on and not self.closing:
            self.go_on(out)

    def connection_lost(self, _error) -> None:
        self.closing = True


async def serve(log: Path, pace: Path, seed: int, share: float) -> None:
    """Serve until SIGTERM."""
    file, faults = (
        os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in (log, log.with_suffix(".faults"))
    )
    descriptor = os.open(pace, os.O_RDWR)
    seconds = mmap.mmap(descriptor, 8)
    plan = Plan(seed, share)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Session(plan, file, faults, seconds), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()


class RoughSink:
    """The sink as a context manager: ``port``, ``pace`` (seconds a letter) and ``dots()``."""

    def __init__(self, folder: Path, *, seed: int = 0, share: float = 1.0, pace: float = 0.0) -> None:
        """``share``: how much of the plan's trouble there is; 0: none."""
        self.log = folder / "dots"
        file = folder / "pace"
        file.write_bytes(struct.pack("d", pace))
        self._argv = [
            sys.executable, __file__, "--log", str(self.log), "--pace", str(file), "--seed", str(seed), "--share", str(share)
        ]  # fmt: skip
        with file.open("r+b") as opened:
            self._pace = mmap.mmap(opened.fileno(), 8)

    def set_pace(self, seconds: float) -> None:
        """Let each verdict take so long from now on."""
        self._pace[:8] = struct.pack("d", seconds)

    def __enter__(self):
        self.process = subprocess.Popen(self._argv, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
        self._pace.close()

    def dots(self) -> list[Taken]:
        """Return every final dot so far, in order."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [Taken(float(at), to, id, what) for at, to, id, what in (line.split("\t") for line in lines)]

    def faults(self) -> Counter[str]:
        """Return how often each fault has happened."""
        return Counter(self.log.with_suffix(".faults").read_text().split())


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--pace", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    given = parser.parse_args()
    uvloop.run(serve(given.log, given.pace, given.seed, given.share))
