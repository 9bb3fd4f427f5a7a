"""The SMTP server: what it takes, what it refuses, and that what it took is stored."""

import asyncio
import smtplib
import time
from contextlib import asynccontextmanager

import pytest

from inbound.inbound_kit import BOUNCES, DOMAIN, TOKENS, dsn, envelope_sender, sent
from mailbase import db as database
from mailbase.inbound.limits import Limits
from mailbase.inbound.server import Handler, listen
from mailbase.sending.domains import verp
from mailbase.signals import incoming


@asynccontextmanager
async def serving(pool, **limited):
    """Run a server on a free port of loopback; yield the port."""
    limits = Limits(time.monotonic, **limited)
    server = await listen(Handler(pool, TOKENS, limits), limits, host="127.0.0.1", port=0, hostname="mx.shop.example")
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def talk(port, *commands, data=None):
    """Say the commands one by one; return the code and text of each answer."""
    answers = []
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.ehlo("mx.post.example")
        for command in commands:
            code, text = client.docmd(command)
            answers.append((code, text.decode()))
        if data is not None:
            code, text = client.data(data)
            answers.append((code, text.decode()))
    return answers


async def hand_over(port, mail, *to, sender=""):
    """Hand a mail over; return the last answer."""
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in to)]
    return (await asyncio.to_thread(talk, port, *commands, data=mail))[-1]


async def test_a_bounce_is_stored(pool, db):
    """A mail from nobody to a letter's own address is stored with its envelope before it is acknowledged."""
    _, (one,) = await sent(db)
    mail = dsn(envelope_sender(one))
    async with serving(pool) as port:
        code, said = await hand_over(port, mail, envelope_sender(one))
    row = await db.fetchrow(
        "SELECT id, source, mail_from, recipients, raw, size, state, host(peer) AS peer FROM incoming"
    )
    assert (code, said) == (250, f"2.6.0 Stored as {row['id']}")
    assert row["raw"] == mail
    assert tuple(row)[1:4] == ("smtp", "", [envelope_sender(one)])
    assert (row["state"], row["peer"], row["size"]) == ("waiting", "127.0.0.1", len(mail))


async def test_who_is_taken(pool, db):
    """VERP and unsubscribe addresses whose MAC is right, in any case, and fbl@, of our domains; everything else is refused at RCPT."""
    _, (one,) = await sent(db)
    ref = verp.ref(TOKENS, one)
    good = [
        f"b.{ref}@{BOUNCES}", f"B.{ref.upper()}@{BOUNCES.upper()}", f"b.{ref}@{DOMAIN}", f"unsubscribe+{ref}@{BOUNCES}",
        f"fbl@{BOUNCES}", f"FBL@{DOMAIN}",
    ]  # fmt: skip
    forged = ref[:-1] + ("0" if ref[-1] != "0" else "1")
    bad = [
        f"b.{forged}@{BOUNCES}", f"unsubscribe+{forged}@{BOUNCES}", f"b.{ref}@bounces.other.example", "fbl@other.example", f"b.@{BOUNCES}",
        f"postmaster@{BOUNCES}", f"info@{DOMAIN}", f"unsubscribe@{BOUNCES}", f"b.{ref}@{BOUNCES}.other.example",
    ]  # fmt: skip
    async with serving(pool) as port:
        answers = await asyncio.to_thread(talk, port, "MAIL FROM:<>", *(f"RCPT TO:<{one}>" for one in (*good, *bad)))
    codes = [code for code, _ in answers[1:]]
    assert codes == [250] * len(good) + [550] * len(bad)
    assert await db.fetchval("SELECT count(*) FROM incoming") == 0


async def test_the_same_mail_twice(pool, db):
    """A mail that is handed over again after a lost answer is stored once."""
    _, (one,) = await sent(db)
    async with serving(pool) as port:
        first = await hand_over(port, dsn("x@y.example"), envelope_sender(one))
        again = await hand_over(port, dsn("x@y.example"), envelope_sender(one))
    assert first == again
    assert await db.fetchval("SELECT count(*) FROM incoming") == 1


async def test_a_domain_that_is_new(pool, db):
    """The addresses of a domain are taken from the moment it is set up."""
    async with serving(pool) as port:
        before = await asyncio.to_thread(talk, port, "MAIL FROM:<>", "RCPT TO:<fbl@bounces.new.example>")
        await db.execute("INSERT INTO domains (name) VALUES ('new.example')")
        after = await asyncio.to_thread(talk, port, "MAIL FROM:<>", "RCPT TO:<fbl@bounces.new.example>")
    assert [before[-1][0], after[-1][0]] == [550, 250]


async def test_a_mail_too_large(pool, db):
    """More than ten megabytes are refused, by the announced size and by the real one."""
    _, (one,) = await sent(db)
    large = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n"
    large += (b"x" * 98 + b"\r\n") * (incoming.LARGEST // 100)
    async with serving(pool) as port:
        announced = await asyncio.to_thread(talk, port, f"MAIL FROM:<> SIZE={incoming.LARGEST + 1}")
        real = await hand_over(port, large, envelope_sender(one))
    assert [announced[0][0], real[0]] == [552, 552]
    assert await db.fetchval("SELECT count(*) FROM incoming") == 0


async def test_long_lines(pool, db):
    """A report with a line of fifty thousand characters is taken: those who write them keep to no limit."""
    _, (one,) = await sent(db)
    async with serving(pool) as port:
        code, _ = await hand_over(port, b"Subject: s\r\n\r\n" + b"y" * 50_000 + b"\r\n", envelope_sender(one))
    assert code == 250


async def test_what_is_kept_of_a_large_mail(pool, db):
    """Of a large mail the first megabyte is kept."""
    _, (one,) = await sent(db)
    large = b"Subject: large\r\n\r\n" + (b"x" * 98 + b"\r\n") * 20_000
    async with serving(pool) as port:
        await hand_over(port, large, envelope_sender(one))
    assert await db.fetchval("SELECT length(raw) FROM incoming") == incoming.KEPT_BYTES
    assert await db.fetchval("SELECT size FROM incoming") == len(large)


async def test_too_many_mails(pool, db):
    """A peer that hands over too many mails a minute is asked to come again later."""
    await sent(db)
    async with serving(pool, mails_a_minute=1, burst=3) as port:
        answers = await asyncio.to_thread(talk, port, *["MAIL FROM:<>", "RSET"] * 4)
    assert [code for code, _ in answers[::2]] == [250, 250, 250, 451]


async def test_too_many_connections(pool):
    """One connection too many is sent away with a word, and there is room again when another goes."""
    async with serving(pool, each=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220 ")
        second, other = await asyncio.open_connection("127.0.0.1", port)
        assert (await second.readline()).startswith(b"421 ")
        assert await second.read() == b""
        other.close()
        writer.write(b"QUIT\r\n")
        await reader.read()
        writer.close()
        deadline = time.monotonic() + 10
        while True:
            third, last = await asyncio.open_connection("127.0.0.1", port)
            greeting = await third.readline()
            last.close()
            if greeting.startswith(b"220 "):
                break
            assert time.monotonic() < deadline


async def test_without_a_database(pool, db, postgres_server):
    """While nothing can be stored, mails and recipients are refused for now, and taken afterwards."""
    _, (one,) = await sent(db)
    name = await db.fetchval("SELECT current_database()")
    mail = dsn("x@y.example")
    admin = await database.connect(postgres_server.url)
    async with serving(pool) as port:
        assert (await hand_over(port, mail, envelope_sender(one)))[0] == 250
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        refused = await hand_over(port, mail + b"another\r\n", envelope_sender(one))
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        taken = await hand_over(port, mail + b"another\r\n", envelope_sender(one))
    await admin.close()
    assert refused == (451, "4.3.0 The mail cannot be stored just now, try again later")
    assert taken[0] == 250


async def test_nobody_is_told_who_is_here(pool):
    """VRFY and EXPN say nothing about addresses, and nobody can log in."""
    async with serving(pool) as port:
        answers = await asyncio.to_thread(
            talk, port, "VRFY fbl@bounces.shop.example", "EXPN all", "AUTH PLAIN AGEAYg=="
        )
    assert answers[0][0] == 252
    assert all(code >= 500 for code, _ in answers[1:])


@pytest.mark.parametrize(
    "rubbish", [b"\0" * 5000 + b"\r\n", b"\xff\xfe\r\n" * 50, b"GET / HTTP/1.1\r\n\r\n", b"A" * 200_000 + b"\r\n"]
)
async def test_rubbish(pool, db, rubbish):
    """Whatever a connection says, the next one is served."""
    _, (one,) = await sent(db)
    async with serving(pool) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(rubbish)
        await reader.readline()
        writer.transport.abort()
        assert (await hand_over(port, dsn("x@y.example"), envelope_sender(one)))[0] == 250


def test_limits_forget_peers():
    """Counts of peers are kept for ten thousand at most, and connections that left are forgotten."""
    limits = Limits(lambda: 0.0)
    for n in range(12_000):
        assert limits.mail(f"peer{n}")
        assert limits.enter(f"peer{n}")
        limits.leave(f"peer{n}")
    assert len(limits._buckets) == 10_000
    assert limits._open.total() == 0
