"""Encryption of mail that comes in: offered to everybody, with the owner's certificate or one of our own making."""

import asyncio
import os
import smtplib
import socket
import ssl
import time
from contextlib import asynccontextmanager

import pytest

from inbound.inbound_kit import TOKENS, dsn, envelope_sender, sent
from mailbase.config import Settings
from mailbase.errors import ConfigError
from mailbase.inbound import certificate
from mailbase.inbound.limits import Limits
from mailbase.inbound.server import Handler, listen


def settings(folder, **more):
    """Return settings with a data directory of their own."""
    return Settings.from_env({"MAILBASE_DATA_DIR": str(folder), "MAILBASE_HOSTNAME": "mx.shop.example", **more})


@asynccontextmanager
async def serving(pool, own, **limited):
    """Run a server with a certificate; yield the port and its limits."""
    limits = Limits(time.monotonic, **limited)
    server = await listen(
        Handler(pool, TOKENS, limits), limits, host="127.0.0.1", port=0, hostname="mx.shop.example", certificate=own
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def unverified():
    """Return what a mail server uses for strangers: encrypted, nobody's name checked."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def hand_over_encrypted(port, mail, to):
    """Hand a mail over under TLS; return the answer and the protocol spoken."""
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        assert client.starttls(context=unverified())[0] == 220
        client.ehlo("mx.post.example")
        assert not client.has_extn("starttls")
        client.docmd("MAIL FROM:<>")
        client.docmd(f"RCPT TO:<{to}>")
        return client.data(mail)[0], client.sock.version()


async def test_a_mail_is_taken_under_tls(pool, db, tmp_path):
    """STARTTLS is offered, a mail handed over after it is stored, and one without it still is."""
    _, (one,) = await sent(db)
    async with serving(pool, certificate.of(settings(tmp_path))) as port:
        code, version = await asyncio.to_thread(hand_over_encrypted, port, dsn("x@y.example"), envelope_sender(one))
    assert (code, version) == (250, "TLSv1.3")
    assert await db.fetchval("SELECT peer IS NOT NULL FROM incoming")


def answer(raw):
    """Return a whole answer: up to the line that has a space behind its code."""
    said = b""
    while not said.endswith(b"\r\n") or said.rstrip().rpartition(b"\n")[2][3:4] != b" ":
        said += raw.recv(4000)
    return said


def say_in_one_breath(port):
    """Send a command behind STARTTLS in the same packet, as an attacker in between would; return what is answered under TLS."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        answer(raw)
        raw.sendall(b"EHLO mx.post.example\r\n")
        answer(raw)
        raw.sendall(b"STARTTLS\r\nMAIL FROM:<evil@example.net>\r\n")
        assert answer(raw).startswith(b"220 ")
        with unverified().wrap_socket(raw, server_hostname="mx.shop.example") as safe:
            safe.sendall(b"NOOP\r\n")
            return safe.recv(1000)


async def test_nothing_said_before_tls_counts_after_it(pool, tmp_path):
    """Commands that were slipped in behind STARTTLS are forgotten."""
    async with serving(pool, certificate.of(settings(tmp_path))) as port:
        answered = await asyncio.to_thread(say_in_one_breath, port)
    assert answered.startswith(b"250 ")
    assert b"Sender ok" not in answered


def break_off(port):
    """Ask for TLS and speak none."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        answer(raw)
        raw.sendall(b"EHLO a\r\n")
        answer(raw)
        raw.sendall(b"STARTTLS\r\n")
        answer(raw)
        raw.sendall(b"this is no handshake\r\n" * 10)
        while raw.recv(1000):
            pass


async def test_a_broken_handshake_makes_room(pool, tmp_path):
    """A peer that never ends its handshake is sent away and no longer counted among its connections."""
    async with serving(pool, certificate.of(settings(tmp_path)), each=2) as port:
        for _ in range(6):
            await asyncio.to_thread(break_off, port)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            assert (await asyncio.to_thread(raw.recv, 100)).startswith(b"220 ")


def test_our_own_certificate_is_kept(tmp_path):
    """It is made once, only its owner may read it, and it is made anew when it cannot be read."""
    certificate.of(settings(tmp_path))
    made = (tmp_path / certificate.FILE).read_bytes()
    certificate.of(settings(tmp_path))
    assert (tmp_path / certificate.FILE).read_bytes() == made
    assert (tmp_path / certificate.FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / certificate.FILE).write_bytes(b"")
    certificate.of(settings(tmp_path))
    assert b"PRIVATE KEY" in (tmp_path / certificate.FILE).read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [certificate.FILE]


def test_the_owners_files(tmp_path):
    """Named files are used, read again when they are renewed, and kept in use while they are half written."""
    certificate.of(settings(tmp_path))
    pem = tmp_path / certificate.FILE
    named = settings(tmp_path, MAILBASE_INBOUND_TLS_CERT=str(pem), MAILBASE_INBOUND_TLS_KEY=str(pem))
    own = certificate.of(named)
    first, written = own.context, pem.read_bytes()
    assert own.context is first
    pem.write_bytes(b"half")
    os.utime(pem, ns=(1, 1))
    assert own.context is first
    pem.write_bytes(written)
    os.utime(pem, ns=(2, 2))
    assert own.context is not first


def test_what_cannot_be_used_is_refused(tmp_path):
    """One file without the other, or files that are none, end the start with the setting's name."""
    with pytest.raises(ConfigError, match="MAILBASE_INBOUND_TLS_KEY"):
        settings(tmp_path, MAILBASE_INBOUND_TLS_CERT="/cert.pem")
    (tmp_path / "no.pem").write_text("no")
    both = dict.fromkeys(("MAILBASE_INBOUND_TLS_CERT", "MAILBASE_INBOUND_TLS_KEY"), str(tmp_path / "no.pem"))
    with pytest.raises(ConfigError, match="MAILBASE_INBOUND_TLS_CERT"):
        certificate.of(settings(tmp_path, **both))
