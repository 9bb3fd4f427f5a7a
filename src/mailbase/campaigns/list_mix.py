"""Whom a list that is not imported yet is addressed to: its addresses counted by the provider that takes their mail.

Large providers' domains are known by heart, the others' mail hosts are looked up; without an answer they count as ``other``, which
the total alone holds. Needs no database: what is known is read where the database has it from, in the migrations.
"""

import asyncio
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import dns.exception
from msgspec import Struct

from mailbase import resources
from mailbase.sending.dns import Unanswered
from mailbase.sending.providers.lookup import DnsHosts, HostResolver
from mailbase.sending.providers.providers import site_of
from mailbase.sending.warmup.rules import UNKNOWN

ASKED: Final = 1000
"""So many domains are looked up, those of most addresses first."""
PARALLEL: Final = 64
PATIENCE: Final = 10.0
"""Seconds for all of them."""
LONGEST_FIELD: Final = 320

_BY_HEART: Final = re.compile(r"INSERT INTO recipient_domains \(domain, provider\) VALUES(.*?);", re.DOTALL)
_DOMAIN: Final = re.compile(r"\('([a-z0-9.-]+)', '([a-z0-9_]+)'\)")
_TABLE: Final = re.compile(r"INSERT INTO providers \(name, mx_suffixes.*?VALUES(.*?);", re.DOTALL)
_SUFFIXES: Final = re.compile(r"\('([a-z0-9_]+)', '\{([^}]*)\}'")
_ADDRESS: Final = re.compile(r"[^\s@<>,;\"]+@([^\s@<>,;\"]+\.[^\s@<>,;\".]{2,})")


class Mix(Struct, frozen=True):
    """Different addresses by provider; ``passed_over``: lines without one; ``unanswered``: addresses whose provider is not known."""

    demand: dict[str, int]
    passed_over: int
    unanswered: int


class Known(Struct, frozen=True):
    """Providers by domain, and by the end of their mail hosts' names."""

    domains: Mapping[str, str]
    suffixes: Mapping[str, str]

    def by_hosts(self, hosts: Iterable[str]) -> str | None:
        """Return the provider of these hosts, best first: one of the table, or a site of its own; None where there are none."""
        names = [host.lower().rstrip(".") for host in hosts]
        for name in names:
            labels = name.split(".")
            for at in range(len(labels)):
                if found := self.suffixes.get("." + ".".join(labels[at:])):
                    return found
        return site_of(names[0]) if names else None


def known(folder: Path | None = None) -> Known:
    """Return what a new database knows."""
    domains: dict[str, str] = {}
    suffixes: dict[str, str] = {}
    for path in sorted((folder or resources.migrations()).glob("*.sql")):
        text = path.read_text()
        for part in _BY_HEART.findall(text):
            domains.update(_DOMAIN.findall(part))
        for part in _TABLE.findall(text):
            suffixes |= {end: name for name, ends in _SUFFIXES.findall(part) for end in ends.split(",") if end}
    return Known(domains, suffixes)


def addresses(lines: Iterable[str]) -> Iterator[tuple[str, str] | None]:
    """Yield the first address of each line that is not empty, as (address, domain) in lower case; None where there is none."""
    for row in csv.reader(line.replace("\0", "") for line in lines):
        if not any(row):
            continue
        found = next((hit for field in row if (hit := _ADDRESS.search(field[:LONGEST_FIELD]))), None)
        yield (found[0].lower(), found[1].lower()) if found else None


async def read(path: Path, *, resolver: HostResolver | None = None, patience: float = PATIENCE) -> Mix:
    """Count a file's addresses by provider. The first line may be a heading.

    Raises:
        OSError: it cannot be read.

    """
    domains: Counter[str] = Counter()
    seen: set[str] = set()
    passed_over = 0
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for number, one in enumerate(addresses(file)):
            if one is None:
                passed_over += number > 0
            elif one[0] not in seen:
                seen.add(one[0])
                domains[one[1]] += 1
    table = known()
    ask = [domain for domain, _ in domains.most_common() if domain not in table.domains][:ASKED]
    found = {**table.domains, **await _looked_up(ask, table, resolver, patience)}
    demand: Counter[str] = Counter()
    for domain, n in domains.items():
        demand[found.get(domain, UNKNOWN)] += n
    return Mix(dict(demand), passed_over, demand[UNKNOWN])


async def _looked_up(
    domains: Iterable[str], table: Known, resolver: HostResolver | None, patience: float
) -> dict[str, str]:
    try:
        asked = resolver or DnsHosts()
    except (dns.exception.DNSException, OSError):
        return {}
    few = asyncio.Semaphore(PARALLEL)
    found: dict[str, str] = {}

    async def look(domain: str) -> None:
        async with few:
            try:
                answer = await asked.mail_hosts(domain)
            except Unanswered:
                return
        if (provider := table.by_hosts(answer.hosts)) is not None:
            found[domain] = provider

    looks = [asyncio.ensure_future(look(domain)) for domain in domains]
    if looks:
        _, late = await asyncio.wait(looks, timeout=patience)
        for one in late:
            one.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    return found
