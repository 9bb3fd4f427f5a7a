"""``mailbase up`` as a process of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory that the servers' user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-up-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """A running ``mailbase up`` and what it said."""

    def __init__(self, home: Path, port: int, **environment: str) -> None:
        """Start it with a clean environment but for ``environment``."""
        self.home, self.port = home, port
        self.log = home / f"up.{time.monotonic_ns()}.log"
        self.began = time.monotonic()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILBASE_")}
        self.environment = {
            **clean,
            "MAILBASE_DATA_DIR": str(home / "data"),
            "MAILBASE_PORT": str(port),
            "MAILBASE_WORKERS": "1",
            **environment,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mailbase", "up"],
                cwd=home,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> list[str]:
        """Return its lines so far."""
        return self.log.read_text().splitlines()

    def ready(self) -> float:
        """Return the seconds it took to say ``ready``."""
        wait_for(lambda: "ready" in self.said() or self.process.poll() is not None, 60)
        assert "ready" in self.said(), self.log.read_text()
        return time.monotonic() - self.began

    def parts(self, words: str) -> list[psutil.Process]:
        """Return its descendants whose command line holds these words in a row."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                if words in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def get(self, path: str) -> dict:
        """Return a JSON answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.load(answer)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and return the seconds until everything was gone."""
        everything = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        _, alive = psutil.wait_procs(everything, timeout=30)
        assert not alive
        return time.monotonic() - began


def wait_for(happened: Callable[[], object], seconds: float = 30) -> None:
    """Return once it happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def start(home: Path, port: int) -> Iterator[Callable[..., Up]]:
    """Start ``mailbase up`` as often as the test likes; what is left is killed."""
    started: list[Up] = []

    def begin(**environment: str) -> Up:
        started.append(Up(home, port, **environment))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            left = psutil.Process(one.process.pid).children(recursive=True)
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(30)
            for process in psutil.wait_procs(left, timeout=10)[1]:
                process.kill()
