"""``mailbase api`` as a process of its own, for tests that need the real socket."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

KEY = "mb_0123456789abcdef"
SECRET = "the secret key of the tests"

Start = Callable[..., subprocess.Popen]


def free_port() -> int:
    """Return a port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def home(server_dir: Path) -> Path:
    """A folder for the process's data and its log."""
    return Path(tempfile.mkdtemp(prefix="api-", dir=server_dir))


@pytest.fixture
def start(database_url: str, redis_url: str, home: Path) -> Iterator[Start]:
    """Start ``mailbase api`` on a port; whatever still runs afterwards is ended."""
    started: list[subprocess.Popen] = []

    def run(port: int, **more: str) -> subprocess.Popen:
        env = {
            "PATH": os.environ["PATH"],
            "MAILBASE_DATA_DIR": str(home),
            "MAILBASE_DATABASE_URL": database_url,
            "MAILBASE_REDIS_URL": redis_url,
            "MAILBASE_SECRET_KEY": SECRET,
            "MAILBASE_ADMIN_KEY": KEY,
            "MAILBASE_PORT": str(port),
            **more,
        }
        command = [str(Path(sys.executable).with_name("mailbase")), "api"]
        log = (home / "api.log").open("w")
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        started.append(process)
        log.close()
        return process

    yield run
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ready(port: int) -> bool:
    """Tell whether the API answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False
