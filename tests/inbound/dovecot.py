"""A real IMAP server on loopback: Debian's Dovecot, with one user and a Maildir, in a folder of its own."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

USER = "bounces"
PASSWORD = "imap secret/@word"


class Dovecot:
    """A running server: ``port`` without TLS, ``secure`` with TLS from the first byte and STARTTLS on ``port``."""

    def __init__(self, home: Path, port: int, secure: int) -> None:
        self.home = home
        self.port = port
        self.secure = secure
        self._n = 0

    def deliver(self, mail: bytes) -> None:
        """Put a mail into the mailbox as a delivery agent does."""
        self._n += 1
        name = f"{time.time():.6f}.{os.getpid()}_{self._n}.host"
        fresh = self.home / "mail" / "tmp" / name
        fresh.write_bytes(mail.replace(b"\r\n", b"\n"))
        owner = (self.home / "mail").stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
        fresh.rename(self.home / "mail" / "new" / name)

    def mails(self) -> list[str]:
        """Return the names of the mails that are there; behind the comma are their flags."""
        return sorted(file.name for folder in ("new", "cur") for file in (self.home / "mail" / folder).iterdir())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(certificate: Path | None = None, key: Path | None = None) -> Iterator[Dovecot]:
    """Run a server until the block ends; as root it takes Debian's users, else one's own."""
    home = Path(tempfile.mkdtemp(prefix="mailbase-imap-"))
    home.chmod(0o755)
    own = pwd.getpwuid(os.geteuid())
    mail_user = pwd.getpwnam("nobody") if own.pw_uid == 0 else own
    login_user, internal_user = ("dovenull", "dovecot") if own.pw_uid == 0 else (own.pw_name, own.pw_name)
    for folder in ("mail/new", "mail/cur", "mail/tmp", "run", "state"):
        (home / folder).mkdir(parents=True)
    for folder in (home / "mail", *(home / "mail").iterdir()):
        os.chown(folder, mail_user.pw_uid, mail_user.pw_gid)
    (home / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}:{mail_user.pw_uid}:{mail_user.pw_gid}::{home}::\n")
    (home / "users").chmod(0o644)
    server = Dovecot(home, _free_port(), _free_port())
    tls = f"ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}" if certificate else "ssl = no"
    listener = f"inet_listener imaps {{\n    port = {server.secure}\n    ssl = yes\n  }}" if certificate else ""
    (home / "dovecot.conf").write_text(f"""
protocols = imap
listen = 127.0.0.1
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
default_internal_user = {internal_user}
default_login_user = {login_user}
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{home}/mail
{tls}
service imap-login {{
  inet_listener imap {{
    port = {server.port}
  }}
  {listener or "inet_listener imaps {" + chr(10) + "    port = 0" + chr(10) + "  }"}
  chroot =
}}
service anvil {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
}}
""")
    process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(home / "dovecot.conf")], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=5) as probe:
                if probe.recv(200).startswith(b"* OK"):
                    break
            assert process.poll() is None, (home / "dovecot.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)
