"""DNS look-ups: a resolver that is handed around, so tests point it at a server of their own.

An empty answer is an empty list; no answer at all (time-out, SERVFAIL, refused) raises :class:`Unanswered`: the two must never
be mixed up, or a broken resolver would look like a domain without records.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import dns.reversename

LIFETIME = 6.0  # seconds for one look-up, retries included


class Unanswered(Exception):
    """No server gave an answer."""


def resolver(servers: Sequence[tuple[str, int]] = ()) -> dns.asyncresolver.Resolver:
    """Return dnspython's resolver with our time-outs; ``servers`` are (host, port), none: the system's."""
    made = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        made.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
    made.timeout = LIFETIME / 3
    made.lifetime = LIFETIME
    return made


class Resolver(Protocol):
    """What the checks ask of DNS."""

    async def txt(self, name: str) -> list[str]:
        """Return TXT records, each with its strings joined."""

    async def mx(self, name: str) -> list[str]:
        """Return mail hosts, best first, lower case, without the final dot."""

    async def address(self, name: str) -> list[str]:
        """Return IPv4 addresses, or IPv6 where there are none."""

    async def cname(self, name: str) -> list[str]:
        """Return what the name is another name of, lower case, without the final dot; nothing where it is none."""


class DnsResolver:
    """A :class:`Resolver` over dnspython; ``servers`` are (host, port), none: the system's."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._resolver = resolver(servers)

    async def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unanswered(f"{name} {kind}: {error}") from None
        return list(answer)

    async def txt(self, name: str) -> list[str]:
        """Return TXT records, each with its strings joined."""
        return [b"".join(item.strings).decode("utf-8", "replace") for item in await self._ask(name, "TXT")]

    async def mx(self, name: str) -> list[str]:
        """Return mail hosts, best first."""
        found = [(item.preference, item.exchange.to_text().rstrip(".").lower()) for item in await self._ask(name, "MX")]
        return [host for _, host in sorted(found)]

    async def address(self, name: str) -> list[str]:
        """Return IPv4 addresses, or IPv6 where there are none."""
        return [item.to_text() for item in await self._ask(name, "A") or await self._ask(name, "AAAA")]

    async def cname(self, name: str) -> list[str]:
        """Return what the name is another name of."""
        return [item.target.to_text().rstrip(".").lower() for item in await self._ask(name, "CNAME")]

    async def addresses(self, name: str) -> list[str]:
        """Return IPv4 and IPv6 addresses."""
        return [item.to_text() for kind in ("A", "AAAA") for item in await self._ask(name, kind)]

    async def names(self, address: str) -> list[str]:
        """Return what an address is called in reverse DNS, lower case, without the final dot."""
        reverse = dns.reversename.from_address(address).to_text()
        return [item.target.to_text().rstrip(".").lower() for item in await self._ask(reverse, "PTR")]
