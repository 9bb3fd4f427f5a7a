"""``mailbase up``: everything on one machine under one supervisor.

The supervisor holds a lock on the data directory, starts the embedded servers it was not given an address for, migrates, starts
one API, a worker a core and the inbound server where it has a port, says where things are, and from then on restarts what dies (0.5 s, doubling to 30 s). A signal stops
it all in order: API and workers drain, then Redis, then PostgreSQL. Killed outright it leaves nothing behind: the kernel passes
the news on to every child, and the next start waits for those that still finish.
"""

import contextlib
import errno
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

from mailbase import __version__, servers
from mailbase.config import Settings
from mailbase.errors import ConfigError
from mailbase.home import admin_key_file, complete
from mailbase.pages.words import with_files

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
HEALTHY_AFTER: Final = 30.0
GRACE: Final = 15.5
"""Seconds for API and workers to drain; a worker itself gives a silent peer 15 s."""
SERVER_GRACE: Final = 3.5
PORT_PATIENCE: Final = 18.0


class Child:
    """A process that is kept running: one of our own parts, or an embedded server."""

    def __init__(self, name: str, *, server: servers.Server | None = None) -> None:
        self.name = name
        self._server = server
        self._stop_signal = server.stop_signal if server else signal.SIGTERM
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, or raise what keeps it from starting."""
        self._started = time.monotonic()
        self.process = self._server.start() if self._server else _part(self.name)

    def wait_ready(self) -> None:
        """Return once an embedded server answers."""
        if self._server and self.process:
            self._server.wait(self.process)

    def mind(self, now: float) -> None:
        """Notice a death, and start again once the pause is over."""
        if self.process is not None and (code := self.process.poll()) is not None:
            if now - self._started > HEALTHY_AFTER:
                self._pause = FIRST_PAUSE
            print(
                f"{self.name} ended ({_cause(code)}); starting it again in {self._pause:g} s",
                file=sys.stderr,
                flush=True,
            )
            self.process, self._not_before = None, now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self.process is None and now >= self._not_before:
            self.start()

    def signal(self, number: signal.Signals | None = None) -> None:
        """Tell a running process to stop."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number or self._stop_signal)

    def gone(self, deadline: float) -> bool:
        """Return whether the process ended before the deadline."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def up(settings: Settings) -> None:
    """Run everything until a signal says stop.

    Raises:
        ConfigError: what keeps it from starting, in one line.

    """
    stop = _stop_event()
    with_files(settings.data_dir / "locales")
    with _locked(settings) as crashed:
        patience = PORT_PATIENCE if crashed else 0.0
        _port_free("MAILBASE_PORT", settings.host, settings.port, stop, patience=patience)
        if settings.inbound_port:
            _port_free("MAILBASE_INBOUND_PORT", settings.inbound_host, settings.inbound_port, stop, patience=patience)
        embedded: list[Child] = []
        parts: list[Child] = []
        try:
            embedded += _start_servers(settings)
            first_key = settings.admin_key is None and not admin_key_file(settings).exists()
            settings = complete(settings)
            _migrate()
            parts += [Child("api"), *(Child("worker") for _ in range(settings.workers))]
            if settings.inbound_port or settings.inbound_imap_url is not None:
                parts.append(Child("inbound"))
            for child in parts:
                if not stop.is_set():
                    child.start()
            _wait_ready(settings, parts, stop)
            if settings.inbound_port:
                _wait_inbound(settings, parts[-1], stop)
            if not stop.is_set():
                _announce(settings, show_key=first_key)
            while not stop.wait(0.2):
                now = time.monotonic()
                for child in (*embedded, *parts):
                    child.mind(now)
        finally:
            _stop(parts, GRACE)
            _stop(embedded[::-1], SERVER_GRACE)


def _stop_event() -> threading.Event:
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    return stop


def _start_servers(settings: Settings) -> list[Child]:
    children = []
    if settings.database_url is None:
        children.append(Child("postgres", server=servers.postgres(settings.data_dir)))
    if settings.redis_url is None:
        children.append(Child("redis", server=servers.redis(settings.data_dir)))
    try:
        for child in children:
            child.start()
        for child in children:
            child.wait_ready()
    except BaseException:
        _stop(children[::-1], SERVER_GRACE)
        raise
    return children


def _part(name: str) -> subprocess.Popen[bytes]:
    # In a group of its own: a Ctrl-C at the terminal reaches it through us, in order, and only once.
    return subprocess.Popen(
        # -P: a module of the folder one happens to stand in must never be taken for one of ours.
        [sys.executable, "-P", "-m", "mailbase", name],
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=servers.die_with_parent(signal.SIGTERM),
    )


def _migrate() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mailbase", "migrate", "--quiet"],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise ConfigError(done.stderr.strip().removeprefix("mailbase: ") or "the migrations failed")


def _stop(children: list[Child], grace: float) -> None:
    deadline = time.monotonic() + grace
    for child in children:
        child.signal()
    for child in children:
        if not child.gone(deadline):
            print(f"{child.name} did not stop in time and was killed", file=sys.stderr, flush=True)
            child.signal(signal.SIGQUIT if child.name == "postgres" else signal.SIGKILL)
            child.gone(time.monotonic() + 1)


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[bool]:
    """Hold the data directory, so that two supervisors never share one; yield whether the last one was killed."""
    try:
        settings.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(settings.data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"MAILBASE_DATA_DIR: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"MAILBASE_DATA_DIR: another mailbase up runs in {settings.data_dir}") from None
    try:
        crashed = os.pread(descriptor, 1, 0) == b"1"
        os.pwrite(descriptor, b"1", 0)
        yield crashed
        os.pwrite(descriptor, b"0", 0)
    finally:
        os.close(descriptor)


def _port_free(name: str, host: str, port: int, stop: threading.Event, *, patience: float) -> None:
    """Return once the port can be had; a part that outlived a killed supervisor gets its time to drain."""
    deadline = time.monotonic() + patience
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    where = name.removesuffix("PORT") + "HOST"
                    raise ConfigError(f"{where}: {host!r} is no address of this machine") from None
                if time.monotonic() > deadline or stop.wait(0.2):
                    reason = os.strerror(error.errno) if error.errno else str(error)
                    raise ConfigError(f"{name}: {host}:{port} cannot be had ({reason})") from None
            else:
                return


def _wait_ready(settings: Settings, parts: list[Child], stop: threading.Event) -> None:
    deadline = time.monotonic() + 60
    while not stop.wait(0.05):
        for part in parts:
            if part.process is None or part.process.poll() is not None:
                raise ConfigError(f"a part of mailbase ended at start ({part.name}); its last words are above")
        connection = http.client.HTTPConnection(_dial(settings.host), settings.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise ConfigError("the API did not answer within 60 s")


def _wait_inbound(settings: Settings, inbound: Child, stop: threading.Event) -> None:
    deadline = time.monotonic() + 30
    while not stop.wait(0.05):
        if inbound.process is None or inbound.process.poll() is not None:
            raise ConfigError("the inbound server ended at start; its last words are above")
        with contextlib.suppress(OSError):
            socket.create_connection((_dial(settings.inbound_host), settings.inbound_port), timeout=5).close()
            return
        if time.monotonic() > deadline:
            raise ConfigError("the inbound server did not answer within 30 s")


def _dial(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _announce(settings: Settings, *, show_key: bool) -> None:
    file = admin_key_file(settings)
    key = f"{file}" if file.exists() else "the one in MAILBASE_ADMIN_KEY"
    print(
        f"mailbase {__version__}",
        f"  URL        {settings.public_url}  (reference: {settings.public_url}/docs)",
        f"  admin key  {key}" + (f"  ({settings.admin_key}, shown this once)" if show_key else ""),
        f"  relay      {settings.smtp.host}:{settings.smtp.port}"
        if settings.smtp
        else f"  mx         the recipients' own servers, from {', '.join(settings.mx.sources) or settings.hostname}"
        if settings.mx
        else f"  outbox     {settings.outbox_dir}  ({settings.public_url}/outbox)",
        *([f"  inbound    {settings.inbound_host}:{settings.inbound_port} (SMTP)"] if settings.inbound_port else []),
        f"  demo       `mailbase demo` (in a checkout: `make demo`), then {settings.public_url}/embed/demo",
        "ready",
        sep="\n",
        flush=True,
    )
