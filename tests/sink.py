"""An SMTP sink in a process of its own: takes every letter as fast as it can, and can write down what it took.

``python tests/sink.py [--log FILE] [--stamp] [--delay SECONDS]`` prints its port. One line of the log for each letter it is about
to accept: ``recipient TAB Message-ID``, written before the 250 goes out, as a server does that keeps its word; ``--stamp`` adds
``TAB nanoseconds`` of the monotonic clock, which all processes of a machine share.
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

MESSAGE_ID = re.compile(rb"^Message-ID:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
TAKEN = b"250 2.0.0 taken\r\n"
EHLO = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, log: int | None, delay: float, *, stamp: bool) -> None:
        self.log = log
        self.delay = delay
        self.stamp = stamp
        self.buffer = b""
        self.content = False
        self.held = False
        self.recipient = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.held:
            self.go_on([])

    def go_on(self, out: list[bytes]) -> None:
        """Answer what can be answered; while a verdict is held back nothing behind it is."""
        self.held = False
        while not self.held:
            end = self.buffer.find(b"\r\n.\r\n" if self.content else b"\r\n")
            if end < 0:
                break
            head, self.buffer = self.buffer[:end], self.buffer[end + (5 if self.content else 2) :]
            if not self.content:
                out.append(self.command(head))
                continue
            self.content = False
            if self.log is not None:
                found = MESSAGE_ID.search(head)
                at = b"\t%d" % time.monotonic_ns() if self.stamp else b""
                os.write(self.log, b"%b\t%b%b\n" % (self.recipient, found[1] if found else b"-", at))
            if self.delay:
                self.held = True
                asyncio.get_running_loop().call_later(self.delay, self.go_on, [TAKEN])
            else:
                out.append(TAKEN)
        if out and not self.transport.is_closing():
            self.transport.write(b"".join(out))

    def command(self, line: bytes) -> bytes:
        """Return the answer to a command."""
        verb = line[:4].upper()
        if verb == b"DATA":
            self.content = True
            return b"354 go on\r\n"
        if verb == b"EHLO":
            return EHLO
        if verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self.transport.close)
            return b"221 2.0.0 bye\r\n"
        if verb == b"RCPT":
            self.recipient = line[line.index(b"<") + 1 : line.index(b">")]
        return b"250 2.0.0 ok\r\n"


async def serve(log: Path | None, delay: float, *, stamp: bool) -> None:
    """Serve until SIGTERM."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Session(file, delay, stamp=stamp), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()


class Sink:
    """The sink as a context manager: ``port`` and, with a log, ``taken()``."""

    def __init__(self, log: Path | None = None, *, delay: float = 0.0, stamp: bool = False) -> None:
        self.log = log
        self.delay = delay
        self.stamp = stamp

    def __enter__(self):
        argv = [sys.executable, __file__, "--delay", str(self.delay)]
        argv += [*(["--log", str(self.log)] if self.log else []), *(["--stamp"] if self.stamp else [])]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def taken(self) -> list[tuple[str, str]]:
        """Return (recipient, Message-ID) of every letter taken so far."""
        if not self.log.exists():
            return []
        return [tuple(line.split("\t")) for line in self.log.read_text().splitlines()]


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path)
    parser.add_argument("--stamp", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    uvloop.run(serve(given.log, given.delay, stamp=given.stamp))
