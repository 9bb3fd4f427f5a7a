"""CPU a letter costs to sign and to hand over, as ratios to one RSA-2048 signature measured in the same run.

Run: ``python bench/signing.py`` (the sink is a process of its own; no TLS).
"""

import asyncio
import multiprocessing
import socket
import time

import uvloop
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mailbase.config import Relay
from mailbase.sending.outcomes import Envelope
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import Signer
from mailbase.sending.smtp.connections import SmtpTransport

LETTERS = 20_000
SIGNED = 3_000
HEADERS = [
    (b"From", b"Shop <news@example.org>"),
    (b"To", b"ann@example.com"),
    (b"Subject", b"=?utf-8?q?Nouveaut=C3=A9s?="),
    (b"Date", b"Sun, 22 Nov 2026 06:40:33 +0000"),
    (b"Message-ID", b"<d7.1@example.org>"),
    (b"MIME-Version", b"1.0"),
    (b"Content-Type", b"multipart/alternative; boundary=b"),
    (b"List-Id", b"Shop <shop.example.org>"),
    (b"List-Unsubscribe", b"<https://example.org/u/abcdefghijklmnopqrstuvwxyz>"),
    (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
    (b"Feedback-ID", b"7:shop:campaign:mailbase"),
]
BODY = (b"0123456789" * 7 + b"abcd\r\n") * 320


class Sink(asyncio.Protocol):
    """Says yes to everything; counts nothing but the end of a letter."""

    def connection_made(self, transport):
        self.transport = transport
        self.content = False
        self.rest = b""
        transport.write(b"220 sink\r\n")

    def data_received(self, data):
        buffer = self.rest + data
        replies = []
        while buffer:
            if self.content:
                end = buffer.find(b"\r\n.\r\n")
                if end < 0:
                    buffer = buffer[-4:]
                    break
                buffer = buffer[end + 5 :]
                self.content = False
                replies.append(b"250 ok\r\n")
                continue
            line, found, after = buffer.partition(b"\r\n")
            if not found:
                break
            buffer = after
            if line == b"DATA":
                self.content = True
                replies.append(b"354 go\r\n")
            elif line.startswith(b"EHLO"):
                replies.append(b"250-sink\r\n250-PIPELINING\r\n250 SIZE 20000000\r\n")
            else:
                replies.append(b"250 ok\r\n")
        self.rest = buffer
        if replies:
            self.transport.write(b"".join(replies))


def sink(listening) -> None:
    async def serve():
        server = await asyncio.get_running_loop().create_server(Sink, sock=listening)
        await server.serve_forever()

    uvloop.run(serve())


def cpu(times: int, call) -> float:
    """Return microseconds of CPU a call."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times * 1e6


async def hand_over(port: int) -> float:
    data = b"\r\n".join(name + b": " + value for name, value in HEADERS) + b"\r\n\r\n" + BODY
    transport = SmtpTransport(Relay("127.0.0.1", port, None, None, "none", 10), hostname="bench.example")
    sent = 0

    def count(outcome):
        nonlocal sent
        sent += outcome.kind == "sent"

    start = time.process_time()
    for first in range(0, LETTERS, 500):
        batch = [
            Envelope(first + n, "b.abcdefgh@bounces.example.org", f"u{n}@example.com", data, clean=True)
            for n in range(500)
        ]
        await transport.hand_over(batch, count)
    spent = (time.process_time() - start) / LETTERS * 1e6
    await transport.close()
    assert sent == LETTERS
    return spent


def main() -> None:
    """Measure and print."""
    key = keys.generate()
    signer = Signer("example.org", "mb2026a", key)
    message = b"x" * 1500
    padding, digest = PKCS1v15(), SHA256()
    bare = cpu(SIGNED, lambda: key.sign(message, padding, digest))
    known = cpu(SIGNED, lambda: signer.sign(HEADERS, BODY, now=1_790_000_000, canonical=True))
    general = cpu(SIGNED // 3, lambda: signer.sign(HEADERS, BODY, now=1_790_000_000))
    listening = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.get_context("fork").Process(target=sink, args=(listening,), daemon=True)
    process.start()
    handed = uvloop.run(hand_over(listening.getsockname()[1]))
    process.terminate()
    process.join()
    print(f"one RSA-2048 signature                {bare:7.1f} µs   1.00")
    print(f"signing a canonical letter of {len(BODY) // 1000} kB    {known:7.1f} µs   {known / bare:.2f}")
    print(f"signing any letter of {len(BODY) // 1000} kB            {general:7.1f} µs   {general / bare:.2f}")
    print(f"handing one letter over, pipelined    {handed:7.1f} µs   {handed / bare:.2f}")


if __name__ == "__main__":
    main()
