"""A real Postfix in a folder of its own, which takes every letter of a domain and throws it away; its log says what it took."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Self

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = {hostname}
mydestination =
alias_maps =
inet_interfaces = all
inet_protocols = all
mynetworks = 127.0.0.0/8
relay_domains = {domain}
relay_transport = discard
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/tls.pem
smtpd_tls_loglevel = 1
smtpd_peername_lookup = no
"""

MASTER = """
smtp      inet  n  -  n  -  -  smtpd
cleanup   unix  n  -  n  -  0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
tlsmgr    unix  -  -  n  1000?  1  tlsmgr
rewrite   unix  -  -  n  -  -  trivial-rewrite
bounce    unix  -  -  n  -  0  bounce
defer     unix  -  -  n  -  0  bounce
trace     unix  -  -  n  -  0  bounce
verify    unix  -  -  n  -  1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -  -  proxymap
error     unix  -  -  n  -  -  error
retry     unix  -  -  n  -  -  error
discard   unix  -  -  n  -  -  discard
anvil     unix  -  -  n  -  1  anvil
scache    unix  -  -  n  -  1  scache
postlog   unix-dgram n  -  n  -  1  postlogd
"""


class Postfix:
    """An async context manager. ``run`` makes a command line that runs on its host."""

    def __init__(self, folder: Path, run, *, hostname: str, domain: str, certificate: bytes) -> None:
        self.folder = folder
        self._run = run
        self._main = MAIN.format(folder=folder, hostname=hostname, domain=domain)
        self._certificate = certificate

    async def __aenter__(self) -> Self:
        conf = self.folder / "conf"
        for part in ("conf", "queue", "data"):
            (self.folder / part).mkdir(parents=True)
        (conf / "main.cf").write_text(self._main)
        (conf / "master.cf").write_text(MASTER)
        (self.folder / "tls.pem").write_bytes(self._certificate)
        shutil.chown(self.folder / "data", "postfix")
        self._process = await asyncio.create_subprocess_exec(
            *self._run("/usr/sbin/postfix", "-c", str(conf), "start-fg"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            while "daemon started" not in self.log:
                assert self._process.returncode is None, self.log + (await self._process.communicate())[1].decode()
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        stop = self._run("/usr/sbin/postfix", "-c", str(self.folder / "conf"), "abort")
        await (await asyncio.create_subprocess_exec(*stop, stderr=asyncio.subprocess.DEVNULL)).wait()
        try:
            async with asyncio.timeout(20):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()

    @property
    def log(self) -> str:
        """What it said so far."""
        file = self.folder / "mail.log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def taken(self) -> list[str]:
        """The recipients of what it took, once for each letter."""
        return re.findall(r"to=<([^>]+)>.* status=sent", self.log)
