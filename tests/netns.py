"""Hosts of their own: network namespaces, each joined to this one by a pair of virtual interfaces. Root on Linux.

``with Host(1) as host`` makes a namespace at ``host.ipv4`` and ``host.ipv6``; ours on the other side is ``host.near``.
``host.listen(25)`` returns a socket that lives there, for a server of this very process; ``host.command(…)`` is a command line
that runs there.
"""

import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    """Run ``ip``; a failure says why."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Host:
    """A context manager; ``number`` (1 to 60) makes its addresses, those of two hosts must differ."""

    def __init__(self, number: int) -> None:
        # Several runs at once must not meet.
        net = 64 + os.getpid() % 64
        block = (os.getpid() // 64) % 256
        self.name = f"mb{os.getpid()}-{number}"
        self.near = f"10.{net}.{block}.{4 * number + 1}"
        self.ipv4 = f"10.{net}.{block}.{4 * number + 2}"
        self.near6 = f"fd00:{net:x}:{block:x}:{number:x}::1"
        self.ipv6 = f"fd00:{net:x}:{block:x}:{number:x}::2"
        self._near = f"mb{os.getpid() % 100_000}n{number}"
        self._far = f"mb{os.getpid() % 100_000}f{number}"

    def __enter__(self) -> Self:
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
            ip("addr", "add", f"{self.near}/30", "dev", self._near)
            ip("addr", "add", f"{self.near6}/64", "dev", self._near, "nodad")
            ip("link", "set", self._near, "up")
            inside = ("-n", self.name)
            ip(*inside, "addr", "add", f"{self.ipv4}/30", "dev", self._far)
            ip(*inside, "addr", "add", f"{self.ipv6}/64", "dev", self._far, "nodad")
            ip(*inside, "link", "set", self._far, "up")
            ip(*inside, "link", "set", "lo", "up")
            ip(*inside, "route", "add", "default", "via", self.near)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "del", self._near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def add_near(self, address: str) -> None:
        """Give our side one more address, which this host can answer."""
        ip("addr", "add", f"{address}/32", "dev", self._near)

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs there."""
        return ["ip", "netns", "exec", self.name, *words]

    def listen(self, port: int, *, ipv6: bool = False) -> socket.socket:
        """Return a listening socket in this namespace: a socket stays where it was made, its thread need not."""
        made: list[socket.socket] = []

        def make() -> None:
            with Path(f"/var/run/netns/{self.name}").open("rb") as namespace:
                assert _libc.setns(namespace.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            family, address = (socket.AF_INET6, self.ipv6) if ipv6 else (socket.AF_INET, self.ipv4)
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(100)
            made.append(listener)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]
