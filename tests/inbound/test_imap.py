"""The mailbox that is read over IMAP, against a real Dovecot."""

import asyncio
import logging
import time
from urllib.parse import quote

import pytest
import trustme

from inbound import dovecot
from inbound.dovecot import PASSWORD, USER
from inbound.inbound_kit import dsn, envelope_sender, sent
from mailbase.config import Settings
from mailbase.errors import ConfigError
from mailbase.inbound import imap

pytestmark = pytest.mark.imap


@pytest.fixture
def server():
    """A mailbox without TLS."""
    with dovecot.running() as running:
        yield running


def url(server, *, done="keep", password=PASSWORD, folder="INBOX", tls="none"):
    """Return the setting that reads the mailbox."""
    return f"imap://{USER}:{quote(password, safe='')}@127.0.0.1:{server.port}/{folder}?tls={tls}&done={done}"


def read_setting(value):
    """Return the setting as the configuration reads it."""
    return Settings.from_env({"MAILBASE_INBOUND_IMAP_URL": value}).inbound_imap_url


async def test_what_is_new_is_stored_once(pool, db, server):
    """Every mail is stored as it is, once, over many rounds and a new start; the mailbox stays unread and complete."""
    _, (one,) = await sent(db)
    box = read_setting(url(server))
    assert await imap.step(pool, box) == 0
    server.deliver(dsn(envelope_sender(one)))
    server.deliver(dsn(envelope_sender(one), action="delayed"))
    assert await imap.step(pool, box) == 2
    assert await imap.step(pool, box) == 0
    server.deliver(dsn(envelope_sender(one)) + b"a third\r\n")
    assert await imap.step(pool, read_setting(url(server))) == 1
    rows = await db.fetch("SELECT source, mail_from, raw FROM incoming ORDER BY id")
    assert [row["source"] for row in rows] == ["imap"] * 3
    assert rows[0]["raw"] == dsn(envelope_sender(one))
    assert rows[0]["mail_from"] is None
    assert len(server.mails()) == 3
    assert not any("S" in name.rpartition(",")[2] for name in server.mails())


async def test_a_mailbox_that_was_made_anew(pool, db, server):
    """When the server numbers its mails anew everything is looked at again, and nothing is stored twice."""
    box = read_setting(url(server))
    for n in range(3):
        server.deliver(b"Subject: %d\r\n\r\nx\r\n" % n)
    assert await imap.step(pool, box) == 3
    await db.execute("UPDATE mailboxes SET uidvalidity = 1")
    assert await imap.step(pool, box) == 3
    assert await db.fetchval("SELECT count(*) FROM incoming") == 3


async def test_deleting(pool, db, server):
    """With done=delete a mail leaves the mailbox once it is stored."""
    box = read_setting(url(server, done="delete"))
    for n in range(60):
        server.deliver(b"Subject: %d\r\n\r\nx\r\n" % n)
    assert [await imap.step(pool, box) for _ in range(3)] == [50, 10, 0]
    assert server.mails() == []
    assert await db.fetchval("SELECT count(*) FROM incoming") == 60


async def test_it_goes_on_by_itself(pool, db, server, caplog):
    """A mailbox that refuses is said once, without the password, and read as soon as it can be."""
    stop = asyncio.Event()
    server.deliver(b"Subject: s\r\n\r\nx\r\n")
    users = server.home / "users"
    right = users.read_text()
    users.write_text(right.replace(PASSWORD, "another password"))
    with caplog.at_level(logging.DEBUG):
        reading = asyncio.create_task(imap.run(pool, read_setting(url(server)), stop=stop, every=0.05))
        deadline = time.monotonic() + 30
        while not caplog.records or "cannot be read" not in caplog.text:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        users.write_text(right)
        while not await db.fetchval("SELECT count(*) FROM incoming"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        stop.set()
        await reading
    assert caplog.text.count("cannot be read") == 1
    assert PASSWORD not in caplog.text


async def test_a_server_that_says_when_there_is_something_new(pool, db, server):
    """With IDLE a mail is stored at once, not at the next look, and stopping does not wait for the server."""
    stop = asyncio.Event()
    reading = asyncio.create_task(imap.run(pool, read_setting(url(server)), stop=stop, every=3600))
    # Where inotify has nothing left to give, Dovecot looks by itself every 30 s.
    deadline = time.monotonic() + 100
    for n in range(3):
        server.deliver(b"Subject: %d\r\n\r\nx\r\n" % n)
        while await db.fetchval("SELECT count(*) FROM incoming") <= n:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(reading, 5)


async def test_a_server_that_is_away(pool):
    """Nobody there, or no such folder, is one line that names the mailbox and keeps the password."""
    with dovecot.running() as server:
        box = read_setting(url(server, folder="Nowhere"))
        with pytest.raises(imap.Unreadable) as caught:
            await imap.step(pool, box)
        assert PASSWORD not in str(caught.value)
    with pytest.raises(imap.Unreadable):
        await imap.step(pool, box)


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_tls(pool, db, tmp_path, monkeypatch, tls):
    """With TLS the certificate is checked: one that is known is read from, one that is not is refused."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem, key, trusted = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    pem.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(trusted))
    with dovecot.running(pem, key) as server:
        server.deliver(b"Subject: s\r\n\r\nx\r\n")
        secret = quote(PASSWORD, safe="")
        where = {
            "implicit": f"imaps://{USER}:{secret}@localhost:{server.secure}",
            "starttls": f"imap://{USER}:{secret}@localhost:{server.port}",
        }[tls]
        box = read_setting(where)
        with pytest.raises(imap.Unreadable, match="certificate"):
            await imap.step(pool, box)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert await imap.step(pool, box) == 1
    assert await db.fetchval("SELECT count(*) FROM incoming") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "imaps://host", "imaps://user@host", "pop3://user:secret@host", "imaps://user:secret@host?done=burn",
        "imaps://user:secret@host?tls=none", "imap://user:secret@host?tls=maybe", "imaps://user:secret@host:99999",
    ],
)  # fmt: skip
def test_wrong_settings(wrong):
    """A mailbox that cannot be meant stops the start with one line that names the setting and keeps the password."""
    with pytest.raises(ConfigError, match="MAILBASE_INBOUND_IMAP_URL") as caught:
        read_setting(wrong)
    assert "secret" not in caught.value.message


def test_settings():
    """Port, folder and options have the defaults everybody expects; names and passwords may be percent-encoded."""
    box = read_setting("imaps://bounces%40shop.example:a%2Fb@imap.example.com")
    assert (box.host, box.port, box.user, box.password, box.folder, box.tls, box.done) == (
        "imap.example.com", 993, "bounces@shop.example", "a/b", "INBOX", "implicit", "keep",
    )  # fmt: skip
    box = read_setting("imap://u:p@h/Returned%20mail?done=delete")
    assert (box.port, box.tls, box.folder, box.done) == (143, "starttls", "Returned mail", "delete")
