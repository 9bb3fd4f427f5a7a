"""The whole examination, and the command."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from dns_server import DnsServer
from doctor.doctor_kit import NAME, VAULT, Authority, add_domain, levels, of, settings_for
from mailbase.doctor import examination
from mailbase.doctor.findings import ADVICE, About, report
from mailbase.sending.dns import DnsResolver
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress, relays
from mailbase.vault import CANARY, open_secret
from smtp_peer import SmtpPeer


@pytest.fixture
async def look():
    """Tools that ask nobody outside."""
    async with DnsServer() as server:
        resolver = DnsResolver([server.address])
        yield examination.Tools(resolver=resolver, context=Authority().client(), time_server=None)


@pytest.fixture
def installed(tmp_path, database_url, redis_url):
    """Settings of an installation in the tests' servers."""
    return settings_for(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url, PUBLIC_URL="http://127.0.0.1:1")


async def test_everything_is_looked_at(db, installed, look):
    """Files, disk, database, clock, Redis, pages, ways out and every domain are looked at in one go."""
    await open_secret(db, VAULT, CANARY)
    await add_domain(db)
    async with SmtpPeer() as peer:
        await relays.create(db, VAULT, name="spare", url=f"smtp://127.0.0.1:{peer.port}?tls=none")
        found = await examination.examine(installed, look)
    assert found.status == "wrong"
    assert {one.about for one in found.findings} == {
        "files", "disk", "database", "forms", "secret key", "clock", "redis", "public address", "relay spare", NAME,
    }  # fmt: skip
    seen = levels(found.findings)
    assert (seen["schema"], seen["secret_key"], seen["redis"], seen["relay"]) == ("ok", "ok", "ok", "ok")
    assert (seen["reachable"], seen["workers"], seen["dkim"]) == ("wrong", "wrong", "warning")


async def test_what_is_stopped_says_why(db, installed, look):
    """A way out that refuses letters, and a domain whose campaigns are stopped, are wrong in the words they were stopped with."""
    domain_id = await add_domain(db)
    assert "stopped" not in levels((await examination.examine(installed, look)).findings)
    await egress.stop(db, "outbox", "No space left on device")
    await egress.stop(db, "once", "a relay that was taken away")
    await domain_stops.stop(db, {domain_id: "550 5.7.26 unauthenticated"})

    found = await examination.examine(installed, look)

    said = {one.about: (one.level, one.text, one.advice) for one in found.findings if one.check == "stopped"}
    assert set(said) == {"way out outbox", NAME}
    assert said["way out outbox"][:2] == ("wrong", "It takes no letters: No space left on device.")
    assert "Make room" in said["way out outbox"][2]
    assert "5.7.26" in said[NAME][1]
    assert f"/v1/domains/{domain_id}/resume" in said[NAME][2]
    assert NAME not in {
        one.about for one in (await examination.examine(installed, look, only="other.example")).findings
    }


async def test_nothing_is_changed(db, installed, look, tmp_path):
    """The examination leaves no row and no file behind."""
    await add_domain(db)
    before = await db.fetch("SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY 1")
    status = await db.fetchrow("SELECT * FROM domains")
    await examination.examine(installed, look)
    assert await db.fetchrow("SELECT * FROM domains") == status
    assert await db.fetch("SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY 1") == before
    assert await db.fetchval("SELECT count(*) FROM secrets") == 0
    assert list(tmp_path.iterdir()) == []


async def test_one_domain(db, installed, look):
    """One domain can be looked at alone; one that is not there is said not to be."""
    await add_domain(db)
    await add_domain(db, name="other.example")
    found = await examination.examine(installed, look, only="other.example")
    assert NAME not in {one.about for one in found.findings}
    assert "other.example" in {one.about for one in found.findings}
    found = await examination.examine(installed, look, only="third.example")
    assert of(found.findings, "domains").about == "third.example"


async def test_without_a_database(installed, look):
    """A database that is not there is one finding; everything else is looked at all the same."""
    gone = msgspec.structs.replace(installed, database_url="postgresql://127.0.0.1:1/none")
    found = await examination.examine(gone, look)
    assert of(found.findings, "database").level == "wrong"
    assert {"files", "redis", "public address", "way out"} <= {one.about for one in found.findings}


async def test_without_a_secret_key(db, installed, look):
    """A database of one's own without its secret key is wrong by name."""
    await open_secret(db, VAULT, CANARY)
    found = await examination.examine(msgspec.structs.replace(installed, secret_keys=()), look)
    assert of(found.findings, "secret_key").level == "wrong"


async def test_a_part_that_fails():
    """A part that breaks says so and stops nothing."""

    async def broken():
        raise ZeroDivisionError("oh")

    (found,) = await examination._guarded("a part", broken())
    assert (found.level, "oh" in found.text) == ("warning", True)


async def test_the_clock_outside(installed, look):
    """A time server nobody reaches is well; the examination waits for it a few seconds at most."""
    tools = msgspec.structs.replace(look, time_server=("127.0.0.1", 1), now=lambda: datetime.now(UTC))
    found = await asyncio.wait_for(examination.examine(installed, tools), 30)
    assert levels(one for one in found.findings if one.about == "clock") == {"clock": "ok"}


def test_reports():
    """A report is as bad as its worst finding, and a line says what to do beneath what is wrong."""
    about = About("x")
    well, odd, bad = about.ok("a", "Fine."), about.warning("b", "Odd.", "Look."), about.wrong("c", "Bad.", "Act.")
    assert [report(found).status for found in ([], [well], [well, odd], [bad, odd])] == ["ok", "ok", "warning", "wrong"]
    assert well.line == "ok       x: Fine."
    assert bad.line == f"wrong    x: Bad.{ADVICE}Act."


def doctor(*arguments, **env):
    """Run the command with nothing else of the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILBASE_")}
    return subprocess.run(
        [sys.executable, "-m", "mailbase", "doctor", *arguments],
        env={**clean, **{f"MAILBASE_{name}": str(value) for name, value in env.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_on_nothing(tmp_path):
    """Before the first start the doctor says so in words, makes nothing, and exits 1."""
    done = doctor(DATA_DIR=tmp_path / "data", DNS_SERVERS="127.0.0.1:1", PORT=1)
    assert (done.returncode, done.stderr) == (1, "")
    assert "mailbase up" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_command_in_json(tmp_path):
    """With --json one object is printed, for programs."""
    done = doctor("--json", DATA_DIR=tmp_path, PORT=1)
    said = json.loads(done.stdout)
    assert (done.returncode, said["status"]) == (1, "wrong")
    assert all(set(one) == {"about", "check", "level", "text", "advice"} for one in said["findings"])


def test_a_bad_setting(tmp_path):
    """A setting that cannot be read is a finding that names it."""
    done = doctor(DATA_DIR=tmp_path, PORT="many")
    assert (done.returncode, "MAILBASE_PORT" in done.stdout) == (1, True)
