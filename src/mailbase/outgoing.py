"""Outgoing HTTP: the one client for addresses that somebody else chose.

It connects to public addresses only: a name is resolved here, every address it has is looked at, and the connection goes to the
address that was looked at, so that a second answer of the resolver changes nothing. Redirects are not followed, answers have
a size and a time, and no proxy or credential of the environment is used. An operator whose peers are on a private network says so
(``MAILBASE_OUTGOING_PRIVATE``).
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import httpx
from msgspec import Struct

from mailbase.errors import MailbaseError

SECONDS: Final = 10.0
LARGEST: Final = 1024 * 1024
KEPT: Final = 32
KEPT_SECONDS: Final = 86_400.0

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is given out to the Internet; the rest is special, or of a network's own (RFC 4291, 6890, 8215)."""
BESIDES: Final = (IPv6Network("3fff::/20"), IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
"""Special addresses that Python 3.11 takes for global: documentation, protocol assignments, old relays."""

Resolver = Callable[[str, int], Awaitable[list[tuple[str, int]]]]
"""Returns the (address, port) pairs behind a host's name and a port."""


class Unreachable(MailbaseError):
    """The address could not be asked, or may not be."""

    code = "unreachable"


class Answer(Struct, frozen=True):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def system_resolver(host: str, port: int) -> list[tuple[str, int]]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), port) for _, _, _, _, address in found]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address belongs to the public Internet, whatever disguise it wears (mapped, 6to4, NAT64, Teredo)."""
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address.packed[:12] == bytes.fromhex("0064ff9b") + bytes(8):
            inner = IPv4Address(address.packed[12:])
    if inner is not None:
        return is_public(inner)
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in one for one in BESIDES)


class Outgoing:
    """The client. ``resolver`` and ``context`` are arguments for tests and for authorities of one's own."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        resolver: Resolver = system_resolver,
        context: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
        largest: int = LARGEST,
    ) -> None:
        self._allow_private = allow_private
        self._resolver = resolver
        self._context = context
        self._seconds = seconds
        self._largest = largest
        self._kept: dict[str, tuple[float, bytes]] = {}

    async def get(self, url: str) -> Answer:
        """Fetch an address.

        Raises:
            Unreachable: it is not one of http or https, is not public, does not answer in time, or answers too much.

        """
        return await self.request("GET", url)

    async def get_kept(self, url: str) -> bytes:
        """Fetch something that does not change, such as a certificate named by its digest, once a day at most.

        Raises:
            Unreachable: as for :meth:`get`, or the answer is not a 200.

        """
        now = asyncio.get_running_loop().time()
        found = self._kept.get(url)
        if found is not None and found[0] > now:
            return found[1]
        answer = await self.get(url)
        if answer.status != 200:
            raise Unreachable(f"The server answered {answer.status}.")
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[url] = (now + KEPT_SECONDS, answer.body)
        return answer.body

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        """Ask an address once, by any method.

        Raises:
            Unreachable: as for :meth:`get`.

        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._request(method, url, headers or {}, content)
        except TimeoutError:
            raise Unreachable("The server did not answer in time.") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unreachable(f"The server cannot be reached: {type(error).__name__}.") from error

    async def _request(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        target = httpx.URL(url)
        if target.scheme not in {"http", "https"} or not target.host or target.userinfo:
            raise Unreachable("Only http and https addresses without credentials are asked.")
        host = target.raw_host.decode("ascii")
        address, port = await self._address(host, target.port or (443 if target.scheme == "https" else 80))
        options: dict[str, Any] = {"verify": self._context} if self._context is not None else {}
        async with httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=self._seconds, **options
        ) as client:
            request = client.build_request(
                method,
                target.copy_with(host=address, port=port),
                headers={**headers, "Host": target.netloc.decode("ascii")},
                content=content,
                extensions={"sni_hostname": host},
            )
            answer = await client.send(request, stream=True)
            try:
                return Answer(answer.status_code, dict(answer.headers), await self._body(answer))
            finally:
                await answer.aclose()

    async def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > self._largest:
                raise Unreachable("The server answered more than is read.")
        return bytes(body)

    async def _address(self, host: str, port: int) -> tuple[str, int]:
        found = await self._resolver(host.strip("[]"), port)
        if not found:
            raise Unreachable("The name has no address.")
        # All of them, not the first: a name that also stands for a private address is not one to trust with a retry.
        if not self._allow_private and not all(is_public(ip_address(one.partition("%")[0])) for one, _ in found):
            raise Unreachable("The address is not a public one.")
        return found[0]
