"""Human or machine: what a single request tells, and what only a burst of clicks tells.

request ──judge──▶ human | machine(reason) ──burst──▶ machine('burst'), earlier clicks of the burst too

Pure. Raw signals are always kept; a verdict may later be revised, and only ever from human to machine. The rules are the
first form of deliverability § 6: what is certain by itself, and the burst over distinct links, the strong sign of a scanner.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final, Literal, NamedTuple

Verdict = Literal["human", "machine", "unknown"]
Kind = Literal["open", "click"]

BURST_WINDOW: Final = timedelta(seconds=1)
BURST_LINKS: Final = 3
"""Distinct links of one letter within the window: a scanner follows them all."""
FLOOD: Final = 20
"""Clicks on one letter within the window, whatever the links: nobody's finger. It also bounds what a burst must look at."""

_SCANNERS: Final = (
    "barracuda",
    "proofpoint",
    "mimecast",
    "safelinks",
    "forcepoint",
    "fortinet",
    "trendmicro",
    "symantec",
    "headlesschrome",
    "phantomjs",
    "crawler",
    "spider",
    "scanner",
    "urlscan",
    "preview",
    "bot/",
    "bot;",
    "bot)",
    "-bot",
)
# Proxies that fetch when the letter is looked at: the person is behind them.
_READERS_PROXIES: Final = ("googleimageproxy", "yahoomailproxy")
_PREFETCH: Final = ("prefetch", "prerender", "preview")
_APPLE: Final = IPv4Network("17.0.0.0/8")


class Judgement(NamedTuple):
    """A verdict and, for a machine, the sign that gave it away."""

    verdict: Verdict
    reason: str | None


class Click(NamedTuple):
    """A click as a burst sees it."""

    at: datetime
    link: int


HUMAN: Final = Judgement("human", None)


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
    if by_agent is HUMAN and kind == "open" and isinstance(address, IPv4Address) and address in _APPLE:
        return Judgement("machine", "apple")
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
    if any(name in lower for name in _READERS_PROXIES):
        return HUMAN
    # A plain HTTP library's name is no sign: small mail programs fetch images under theirs.
    if any(name in lower for name in _SCANNERS):
        return Judgement("machine", "scanner")
    return HUMAN


def burst(clicks: Sequence[Click]) -> list[bool]:
    """Say of each click of one letter, in any order, whether it lies in a burst.

    A burst is any span of one second, both ends included, with three distinct links or twenty clicks in it.
    More clicks can only add to it.
    """
    order = sorted(range(len(clicks)), key=lambda n: clicks[n].at)
    found = [False] * len(clicks)
    links: Counter[int] = Counter()
    end = marked = 0
    for start, first in enumerate(order):
        while end < len(order) and clicks[order[end]].at - clicks[first].at <= BURST_WINDOW:
            links[clicks[order[end]].link] += 1
            end += 1
        if len(links) >= BURST_LINKS or end - start >= FLOOD:
            for position in range(max(start, marked), end):
                found[order[position]] = True
            marked = end
        links[clicks[first].link] -= 1
        if not links[clicks[first].link]:
            del links[clicks[first].link]
    return found
