"""Machines that fetch letters' pixels and follow their links: the table the verdicts are read from.

Each row says where it is known from. A row may only name what no person's program is: a proxy people browse through (a company's
web filter, iCloud Private Relay, a VPN) does not belong here, nor does the plain name of an HTTP library, under which small mail
programs fetch pictures.
"""

from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Literal, NamedTuple

Kind = Literal["open", "click"]
_BOTH: Final[tuple[Kind, ...]] = ("open", "click")
_OPEN: Final[tuple[Kind, ...]] = ("open",)


class Agent(NamedTuple):
    """A word in lower case that gives a program away wherever it stands in the user agent, and what to call it."""

    word: str
    reason: str


class Network(NamedTuple):
    """Addresses only machines fetch from."""

    cidr: str
    reason: str
    kinds: tuple[Kind, ...]


AGENTS: Final = (
    # Mail gateways and their link checkers, by the name they give themselves.
    Agent("barracuda", "scanner"),
    Agent("proofpoint", "scanner"),
    Agent("mimecast", "scanner"),
    Agent("safelinks", "scanner"),
    Agent("microsoft-urlanalyzer", "scanner"),
    Agent("forcepoint", "scanner"),
    Agent("fortinet", "scanner"),
    Agent("fortimail", "scanner"),
    Agent("fortisandbox", "scanner"),
    Agent("trendmicro", "scanner"),
    Agent("symantec", "scanner"),
    Agent("messagelabs", "scanner"),
    Agent("ironport", "scanner"),
    Agent("fireeye", "scanner"),
    Agent("sophos", "scanner"),
    Agent("mailscanner", "scanner"),
    Agent("google-safety", "scanner"),
    Agent("virustotal", "scanner"),
    Agent("urlscan", "scanner"),
    # Browsers without a person before them.
    Agent("headlesschrome", "scanner"),
    Agent("phantomjs", "scanner"),
    Agent("puppeteer", "scanner"),
    Agent("selenium", "scanner"),
    # What fetches a link because somebody pasted it into a chat: nobody has looked at it yet.
    Agent("facebookexternalhit", "preview"),
    Agent("whatsapp/", "preview"),
    Agent("skypeuripreview", "preview"),
    Agent("preview", "preview"),
    # The words robots describe themselves with.
    Agent("crawler", "scanner"),
    Agent("spider", "scanner"),
    Agent("scanner", "scanner"),
    Agent("bot/", "scanner"),
    Agent("bot;", "scanner"),
    Agent("bot)", "scanner"),
    Agent("bot ", "scanner"),
    Agent("-bot", "scanner"),
)

PROXIES: Final = ("googleimageproxy", "yahoomailproxy")
"""They fetch when the letter is looked at: the person is behind them, unless the letter has only just been delivered."""

NETWORKS: Final = (
    # Apple's own network. People at Apple read mail there, and far more pictures are fetched ahead from it.
    Network("17.0.0.0/8", "apple", _OPEN),
    # Exchange Online Protection: learn.microsoft.com, "Office 365 URLs and IP address ranges", Exchange Online, ID 10.
    Network("40.92.0.0/15", "scanner", _BOTH),
    Network("40.107.0.0/16", "scanner", _BOTH),
    Network("52.100.0.0/14", "scanner", _BOTH),
    Network("104.47.0.0/17", "scanner", _BOTH),
    Network("2a01:111:f400::/48", "scanner", _BOTH),
    Network("2a01:111:f403::/48", "scanner", _BOTH),
    # Barracuda Email Gateway Defense: campus.barracuda.com, "IP ranges".
    Network("209.222.80.0/21", "scanner", _BOTH),
    # Proofpoint's hosted gateways: what its customers' SPF records name (spf-*.pphosted.com).
    Network("67.231.144.0/20", "scanner", _BOTH),
    Network("148.163.128.0/19", "scanner", _BOTH),
    # Symantec Email Security.cloud: knowledge.broadcom.com, "Cloud security services IP ranges".
    Network("67.219.240.0/20", "scanner", _BOTH),
    Network("85.158.136.0/21", "scanner", _BOTH),
    Network("195.245.230.0/23", "scanner", _BOTH),
    Network("216.82.240.0/20", "scanner", _BOTH),
)


def by_network(kind: Kind, address: IPv4Address | IPv6Address) -> str | None:
    """Return why an address is a machine's, or None."""
    starts, ends, reasons = _RANGES[kind, address.version]
    number = int(address)
    place = bisect_right(starts, number) - 1
    return reasons[place] if place >= 0 and number <= ends[place] else None


def _ranges(kind: Kind, version: int) -> tuple[list[int], list[int], list[str]]:
    found = sorted(
        (int(network[0]), int(network[-1]), row.reason)
        for row in NETWORKS
        if kind in row.kinds and (network := ip_network(row.cidr)).version == version
    )
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]


_RANGES: Final = {(kind, version): _ranges(kind, version) for kind in _BOTH for version in (4, 6)}


@lru_cache(maxsize=4096)
def by_agent(user_agent: str) -> str | None:
    """Return why a user agent is a machine's, or None."""
    lower = user_agent.lower()
    return next((row.reason for row in AGENTS if row.word in lower), None)
