"""What the other doors of a form cost: its page, its configuration, views counted, the embed script; each beside a bare route's cost.

A whole installation as in ``forms.py``. CPU time of the API and of PostgreSQL a request, over kept connections; nothing is limited.
"""

import argparse
import asyncio
import json
import sys

import psutil

from forms import backends, cpu, installation

VISITORS = 16
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Visitor:
    """One kept connection, HTTP by hand."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes) -> int:
        """Ask once and return the status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        kind = "Content-Type: text/plain\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUser-Agent: {AGENT}\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = [int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(length[0] if length else 0)
        return int(answer[9:12])


async def ask_all(port: int, method: str, path: str, body: bytes, requests: int) -> None:
    """Ask as many times as that, by all visitors at once."""
    numbers = iter(range(requests))

    async def visit() -> None:
        visitor = Visitor(port)
        for _ in numbers:
            status = await visitor.ask(method, path, body)
            assert status in {200, 204}, (path, status)

    await asyncio.gather(*(visit() for _ in range(VISITORS)))


def main() -> int:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=2000)
    asked = arguments.parse_args()
    with installation() as (process, port, home, form):
        key = form["key"]
        view = json.dumps({"type": "view", "page": "https://shop.example/", "mode": "inline"}).encode()
        doors = {
            "healthz": ("GET", "/healthz", b""),
            "the embed script": ("GET", "/embed/v1.js", b""),
            "config.json": ("GET", f"/f/{key}/config.json", b""),
            "hosted page, a view": ("GET", f"/f/{key}", b""),
            "events, a view": ("POST", f"/f/{key}/events", view),
        }
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for name, door in doors.items():
            asyncio.run(ask_all(port, *door, 200))
            whose, _ = asyncio.run(backends(home / "data"))
            before = cpu(family, whose)
            asyncio.run(ask_all(port, *door, asked.requests))
            after = cpu([psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)], whose)
            spent = {kind: (after[kind] - before.get(kind, 0)) / asked.requests * 1e6 for kind in after}
            served, stored = spent["mailbase api"], spent.get("PostgreSQL for mailbase api", 0.0)
            print(f"{name:22} API {served:6.0f} µs   PostgreSQL {stored:6.0f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
