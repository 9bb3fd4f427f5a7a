"""Human or machine: what a single request tells, and what only other requests around it tell.

    request ──judge──▶ machine(reason)                                                  stays one
                  └──▶ human ── within 5 s of delivery ──▶ machine('early') an open through a proxy, unknown a click
                         │
                         └─ letter() or crowd() ──▶ machine('burst' | 'crowd'), the earlier clicks of it too

Pure. Raw signals are always kept. A verdict is only ever revised towards machine, and all signs only grow with more clicks: the
same clicks come to the same verdicts in whatever order and batches they are stored. Nothing is revised towards human: a later
click that is a person's makes the letter clicked by a person, beside what machines did to it. The rules are those of
deliverability § 6.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from math import ceil
from typing import Final, Literal, NamedTuple

from mailbase.letters.links import TRAP
from mailbase.signals import machines
from mailbase.signals.machines import Kind

Verdict = Literal["human", "machine", "unknown"]

EARLY: Final = timedelta(seconds=5)
"""Sooner after its delivery nobody has read a letter."""

BURST_WINDOW: Final = timedelta(seconds=1)
BURST_LINKS: Final = 3
"""Distinct links of one letter within the window: a scanner follows them all."""

SWEEP_WINDOW: Final = timedelta(seconds=10)
SWEEP_SHARE: Final = 0.6
SWEEP_LINKS: Final = 4
"""Distinct links within the longer window: this share of the letter's, and at least so many."""
FLOOD: Final = 20
"""Clicks on one letter within the longer window, whatever the links: nobody's finger. It also bounds what must be looked at."""

TRAP_WINDOW: Final = timedelta(seconds=10)
"""As long before and after somebody followed the link that nobody sees, all clicks on the letter are its."""

RETURN_WINDOW: Final = timedelta(minutes=10)
"""As long before and after a burst, a click of the same address and program on the same letter belongs to it."""

CROWD_WINDOW: Final = timedelta(seconds=60)
CROWD: Final = 5
"""Different recipients whose letters one address clicks within the window."""
CROWD_FLOOD: Final = 100
"""Clicks of one address within the window, whatever the letters; it bounds what must be looked at."""

_PREFETCH: Final = ("prefetch", "prerender", "preview")
# Behind these stands a proxy of our own or the reader's network, not a reader: they tell nobody apart.
_SHARED: Final = tuple(
    ip_network(cidr)
    for cidr in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


class Judgement(NamedTuple):
    """A verdict, for a machine the sign that gave it away, and what it is instead within five seconds of the delivery."""

    verdict: Verdict
    reason: str | None
    early: Verdict | None = None


class Click(NamedTuple):
    """A click as the letter's other clicks see it; ``source`` is the address and program, None: not known, or no sign."""

    at: datetime
    link: int
    source: Hashable = None


class Visit(NamedTuple):
    """A click as the address's other clicks see it."""

    at: datetime
    recipient: int


HUMAN: Final = Judgement("human", None)
CLICKED: Final = Judgement("human", None, "unknown")
PROXIED: Final = Judgement("human", None, "machine")


def judge(
    kind: Kind,
    *,
    head: bool,
    purpose: str,
    user_agent: str,
    address: IPv4Address | IPv6Address | None,
) -> Judgement:
    """Judge one request by itself.

    Args:
        kind: the pixel or a link.
        head: it was a HEAD request; no program a person reads mail with sends one.
        purpose: the values of ``Purpose``, ``Sec-Purpose``, ``X-Purpose`` and ``X-Moz``, joined.
        user_agent: as sent.
        address: where it came from.
    """
    if head:
        return Judgement("machine", "head")
    if purpose and any(word in purpose.lower() for word in _PREFETCH):
        return Judgement("machine", "prefetch")
    by_agent = _by_agent(kind, user_agent.strip())
    if by_agent.verdict == "human" and address is not None:
        reason = machines.by_network(kind, address)
        if reason is not None:
            return Judgement("machine", reason)
    return by_agent


@lru_cache(maxsize=4096)
def _by_agent(kind: Kind, user_agent: str) -> Judgement:
    if not user_agent:
        return Judgement("machine", "no_user_agent")
    if user_agent == "Mozilla/5.0":
        return Judgement("machine", "apple")
    # Mail Privacy Protection. Not for clicks: a web view inside a Mac program calls itself the same.
    if kind == "open" and user_agent.endswith("(KHTML, like Gecko)"):
        return Judgement("machine", "apple")
    lower = user_agent.lower()
    if any(name in lower for name in machines.PROXIES):
        return PROXIED if kind == "open" else CLICKED
    reason = machines.by_agent(user_agent)
    if reason is not None:
        return Judgement("machine", reason)
    return HUMAN if kind == "open" else CLICKED


def telling(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address says anything about who is behind it: a proxy of our own on a private network does not."""
    return not any(address in network for network in _SHARED if network.version == address.version)


def sweep_links(links: int) -> int:
    """Return how many distinct links within ten seconds make a sweep of a letter with this many."""
    return max(SWEEP_LINKS, ceil(SWEEP_SHARE * links))


def letter(clicks: Sequence[Click], links: int) -> list[bool]:
    """Say of each click of one letter, in any order, whether it is part of a burst; ``links``: how many the letter has.

    A burst is any span of one second, both ends included, with three distinct links, or of ten seconds with most of the
    letter's links or twenty clicks, or ten seconds around the link that nobody sees; and whatever its source clicks ten minutes
    around it. More clicks can only add to it.
    """
    items = [(click.at, click.link) for click in clicks]
    in_second = _spans(items, BURST_WINDOW, BURST_LINKS, FLOOD)
    in_ten = _spans(items, SWEEP_WINDOW, sweep_links(links), FLOOD)
    trapped = [click.at for click in clicks if click.link == TRAP]
    found = [
        one or other or any(abs(click.at - at) <= TRAP_WINDOW for at in trapped)
        for click, one, other in zip(clicks, in_second, in_ten, strict=True)
    ]
    sources: dict[Hashable, list[datetime]] = {}
    for click, burst in zip(clicks, found, strict=True):
        if burst and click.source is not None:
            sources.setdefault(click.source, []).append(click.at)
    if not sources:
        return found
    return [
        burst or any(abs(click.at - at) <= RETURN_WINDOW for at in sources.get(click.source, ()))
        for click, burst in zip(clicks, found, strict=True)
    ]


def crowd(visits: Sequence[Visit]) -> list[bool]:
    """Say of each click of one address, in any order, whether it is one of a crowd.

    A crowd is any minute, both ends included, with five different recipients or a hundred clicks.
    """
    return _spans([(visit.at, visit.recipient) for visit in visits], CROWD_WINDOW, CROWD, CROWD_FLOOD)


def _spans(items: Sequence[tuple[datetime, int]], window: timedelta, distinct: int, most: int) -> list[bool]:
    """Say of each item (moment, key) whether it lies in a window with so many distinct keys, or so many items."""
    order = sorted(range(len(items)), key=lambda n: items[n][0])
    found = [False] * len(items)
    keys: Counter[int] = Counter()
    end = marked = 0
    for start, first in enumerate(order):
        moment, key = items[first]
        while end < len(order) and items[order[end]][0] - moment <= window:
            keys[items[order[end]][1]] += 1
            end += 1
        if len(keys) >= distinct or end - start >= most:
            for position in range(max(start, marked), end):
                found[order[position]] = True
            marked = end
        keys[key] -= 1
        if not keys[key]:
            del keys[key]
    return found
