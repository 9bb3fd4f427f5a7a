"""``mailbase inbound`` as a process: what it acknowledged survives kill -9, and SIGTERM ends it in order."""

import asyncio
import itertools
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inbound.inbound_kit import SECRET, dsn, envelope_sender, sent


@pytest.fixture
def port():
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(database_url, tmp_path, port):
    """Start ``mailbase inbound`` and wait until it answers; whatever still runs afterwards is ended."""
    started = []

    def run(**more):
        environment = {
            "PATH": os.environ["PATH"],
            "MAILBASE_DATA_DIR": str(tmp_path),
            "MAILBASE_DATABASE_URL": database_url,
            "MAILBASE_SECRET_KEY": SECRET,
            "MAILBASE_INBOUND_PORT": str(port),
            **more,
        }
        with (tmp_path / "inbound.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mailbase", "inbound"], env=environment, stdout=log, stderr=log
            )
        started.append(process)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                assert process.poll() is None, (tmp_path / "inbound.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def flood(port, name, recipients, acknowledged):
    """Hand mails over until the server is gone; note those it took, by the last line of each."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.ehlo("mx.post.example")
            for n in itertools.count():
                line = f"{name}.{n}".encode()
                client.mail("<>")
                client.rcpt(recipients[n % len(recipients)])
                if client.data(dsn("x@y.example") + line)[0] == 250:
                    acknowledged.add(line)
    except (OSError, smtplib.SMTPException):
        return


async def test_killed_after_the_answer(start, port, db):
    """Every mail that was acknowledged before kill -9 is in the database, in three rounds of four senders."""
    _, letters = await sent(db, letters=5)
    recipients = [envelope_sender(one) for one in letters]
    acknowledged = set()
    for round_ in range(3):
        process = start()
        flooding = [asyncio.to_thread(flood, port, f"{round_}.{n}", recipients, acknowledged) for n in range(4)]
        senders = [asyncio.create_task(one) for one in flooding]
        deadline = time.monotonic() + 20
        while len(acknowledged) < 40 * (round_ + 1):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        process.kill()
        process.wait()
        await asyncio.gather(*senders)
    stored = {row["raw"].rstrip().rpartition(b"\n")[2] for row in await db.fetch("SELECT raw FROM incoming")}
    assert len(acknowledged) >= 120
    assert acknowledged - stored == set()


def test_sigterm(start, port, tmp_path):
    """SIGTERM ends the process with 0 within seconds, an idle connection or not; its command line shows what it is."""
    process = start()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as idle:
        assert idle.recv(100).startswith(b"220 ")
        assert b"mailbase inbound" in Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "inbound.log").read_text()


def inbound(tmp_path, database_url, *arguments, mail=b"", **more):
    """Run the command to its end; return its code and its words."""
    environment = {
        "PATH": os.environ["PATH"], "MAILBASE_DATA_DIR": str(tmp_path), "MAILBASE_DATABASE_URL": database_url,
        "MAILBASE_SECRET_KEY": SECRET, **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mailbase", "inbound", *arguments],
        env=environment,
        input=mail,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr.decode()


def test_nothing_to_do(tmp_path, database_url):
    """Without a port and without a mailbox it says in one line what is missing; a port that is taken likewise."""
    code, said = inbound(tmp_path, database_url)
    assert (code, said.count("\n")) == (1, 1)
    assert "MAILBASE_INBOUND_PORT" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = inbound(tmp_path, database_url, MAILBASE_INBOUND_PORT=str(port))
    assert (code, said.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port} cannot be listened on" in said


async def test_the_pipe(tmp_path, database_url, db):
    """A mail on standard input is stored with the envelope it was given, the same one once, and the command says nothing."""
    _, (one,) = await sent(db)
    mail = dsn("x@y.example")
    for _ in range(2):
        assert inbound(tmp_path, database_url, "pipe", "--from", "", "--to", envelope_sender(one), mail=mail) == (0, "")
    rows = await db.fetch("SELECT source, mail_from, recipients, raw FROM incoming")
    assert [tuple(row) for row in rows] == [("pipe", "", [envelope_sender(one)], mail)]


def test_the_pipe_without_a_database(tmp_path, database_url):
    """While the database is away the mail server is told to keep the mail (75); what is no mail is refused (65), wrong use is 2."""
    gone = "postgresql://mailbase@127.0.0.1:9/postgres"
    code, said = inbound(tmp_path, gone, "pipe", mail=dsn("x@y.example"))
    assert (code, said.count("\n")) == (75, 1)
    code, said = inbound(tmp_path, "", "pipe", mail=dsn("x@y.example"))
    assert (code, said.count("\n")) == (75, 1)
    assert inbound(tmp_path, database_url, "pipe", mail=b" \n")[0] == 65
    assert inbound(tmp_path, database_url, "pipe", "--nonsense")[0] == 2
