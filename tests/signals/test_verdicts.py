"""Human or machine, from one request and from a burst."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.signals import machines
from mailbase.signals.verdicts import CROWD, CROWD_FLOOD, CROWD_WINDOW, Click, Visit, crowd, judge, letter, telling

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
WEBVIEW = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36 Edg/129.0.0.0"
OUTLOOK = (
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/7.0; .NET4.0C; Microsoft Outlook 16.0.4266)"
)
INSTAGRAM = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 390.0"
START = datetime(2026, 3, 14, 12, tzinfo=UTC)


def verdict(kind, user_agent=FIREFOX, *, head=False, purpose="", address="192.0.2.1"):
    """Judge one request long after the delivery."""
    return judge(kind, head=head, purpose=purpose, user_agent=user_agent, address=address and ip_address(address))[:2]


@pytest.mark.parametrize("kind", ["open", "click"])
@pytest.mark.parametrize(
    "user_agent",
    [
        FIREFOX,
        IPHONE,
        GMAIL,
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "Thunderbird/140.0",
    ],
)
def test_people(kind, user_agent):
    """Browsers, mail programs and the proxies that fetch when a letter is read are people."""
    assert verdict(kind, user_agent) == ("human", None)


@pytest.mark.parametrize(
    ("kind", "given_", "reason"),
    [
        ("open", {"user_agent": ""}, "no_user_agent"),
        ("click", {"user_agent": "  "}, "no_user_agent"),
        ("open", {"user_agent": "Mozilla/5.0"}, "apple"),
        ("open", {"user_agent": WEBVIEW}, "apple"),
        ("open", {"address": "17.58.1.2"}, "apple"),
        ("open", {"head": True}, "head"),
        ("click", {"head": True}, "head"),
        ("click", {"purpose": "prefetch;prerender"}, "prefetch"),
        ("open", {"purpose": "Preview"}, "prefetch"),
        ("click", {"user_agent": "BarracudaCentral/1.0"}, "scanner"),
        ("click", {"user_agent": "WhatsApp/2.23.20.0"}, "preview"),
        ("click", {"address": "104.47.1.1"}, "scanner"),
        ("open", {"address": "2a01:111:f400:7c00::1"}, "scanner"),
        (
            "click",
            {"user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
            "scanner",
        ),
    ],
)
def test_machines(kind, given_, reason):
    """What no person's program sends is a machine, and the reason is kept."""
    assert verdict(kind, **given_) == ("machine", reason)


def test_clicks_are_not_opens():
    """A web view inside a program, and Apple's own network, are signs of a prefetched image, not of a machine that clicks."""
    assert verdict("click", WEBVIEW) == ("human", None)
    assert verdict("click", address="17.58.1.2") == ("human", None)


@given(
    st.sampled_from(["open", "click"]),
    st.text(max_size=600),
    st.text(max_size=40),
    st.booleans(),
    st.one_of(st.none(), st.ip_addresses()),
)
def test_total(kind, user_agent, purpose, head, address):
    """Any request has a verdict; only a machine has a reason."""
    found = judge(kind, head=head, purpose=purpose, user_agent=user_agent, address=address)
    assert (found.verdict == "machine") == (found.reason is not None)
    assert found.verdict != "human" or not head


@pytest.mark.parametrize(
    ("kind", "user_agent", "early"),
    [("open", FIREFOX, None), ("open", GMAIL, "machine"), ("click", FIREFOX, "unknown"), ("click", GMAIL, "unknown")],
)
def test_early(kind, user_agent, early):
    """Within five seconds of its delivery an open through a proxy is a machine's, and nobody knows who clicked."""
    assert judge(kind, head=False, purpose="", user_agent=user_agent, address=None) == ("human", None, early)


@pytest.mark.parametrize("row", machines.NETWORKS, ids=lambda row: row.cidr)
def test_networks(row):
    """Every address of a network in the table is a machine's, for the requests named; its neighbours are nobody's."""
    network = ip_network(row.cidr)
    for kind in ("open", "click"):
        expected = ("machine", row.reason) if kind in row.kinds else ("human", None)
        assert verdict(kind, address=str(network[0])) == verdict(kind, address=str(network[-1])) == expected
    outside = [network[0] - 1, network[-1] + 1]
    others = [ip_network(other.cidr) for other in machines.NETWORKS if other is not row]
    for address in outside:
        if not any(address in other for other in others if other.version == address.version):
            assert verdict("open", address=str(address)) == ("human", None)


def test_agents_are_written_to_be_found():
    """Every word of the table is in lower case, is there once, and names no browser or mail program."""
    words = [row.word for row in machines.AGENTS]
    assert words == [word.lower() for word in words]
    assert len(set(words)) == len(words)
    for person in (FIREFOX, IPHONE, WEBVIEW, EDGE, OUTLOOK, INSTAGRAM):
        assert machines.by_agent(person) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "172.20.0.1", "192.168.1.1", "fd00::1", "100.64.0.9"]
)
def test_private_addresses_tell_nothing(address):
    """An address of our own network is a proxy's: it tells no reader from another."""
    assert not telling(ip_address(address))
    assert telling(ip_address("203.0.113.7"))
    assert telling(ip_address("2001:db8::7"))


SOURCES = [None, "office", "gateway"]
click = st.builds(
    lambda ms, link, source: Click(START + timedelta(milliseconds=ms), link, source),
    st.one_of(st.integers(0, 15_000), st.integers(0, 1_500_000)),
    st.integers(1, 6),
    st.sampled_from(SOURCES),
)
clicks = st.lists(click, max_size=45)
links = st.integers(1, 30)


def by_definition(given_, links):
    """Say the same as ``letter``, straight from its definition."""
    found = [False] * len(given_)
    for seconds, distinct in ((1, 3), (10, max(4, -(-links * 6 // 10)))):
        for first in given_:
            window = [
                n for n, one in enumerate(given_) if timedelta() <= one.at - first.at <= timedelta(seconds=seconds)
            ]
            if len({given_[n].link for n in window}) >= distinct or len(window) >= 20:
                for n in window:
                    found[n] = True
    returned = [
        one.source is not None
        and any(
            burst and other.source == one.source and abs(other.at - one.at) <= timedelta(minutes=10)
            for other, burst in zip(given_, found, strict=True)
        )
        for one in given_
    ]
    return [one or other for one, other in zip(found, returned, strict=True)]


@given(clicks, links)
def test_letter(given_, links):
    """A click is a burst's exactly if a second around it holds three links, ten seconds most of them, or its source made one."""
    assert letter(given_, links) == by_definition(given_, links)


@given(clicks, clicks, links)
def test_letter_only_grows(given_, more, links):
    """Further clicks never take a click out of a burst."""
    alone = letter(given_, links)
    together = letter([*given_, *more], links)[: len(given_)]
    assert all(not was or still for was, still in zip(alone, together, strict=True))


@given(clicks, links, st.randoms())
def test_letter_knows_no_order(given_, links, chance):
    """The same clicks come to the same verdicts in whatever order they arrive."""
    order = list(range(len(given_)))
    chance.shuffle(order)
    shuffled = letter([given_[n] for n in order], links)
    straight = letter(given_, links)
    assert shuffled == [straight[n] for n in order]


@pytest.mark.parametrize(
    ("seconds", "links", "found"),
    [
        ([0, 0.5, 1.0], 18, [True, True, True]),
        ([0, 0.5, 1.001], 18, [False, False, False]),
        ([0, 3, 6, 9.9], 6, [True] * 4),
        ([0, 3, 6, 9.9], 7, [False] * 4),
        ([0, 3, 6], 3, [False] * 3),
        ([0, 3, 6, 10.001], 4, [False] * 4),
    ],
)
def test_sweeps(seconds, links, found):
    """Three links in a second, or most of a letter's links and at least four in ten: the borders belong to the burst."""
    given_ = [Click(START + timedelta(seconds=at), n + 1) for n, at in enumerate(seconds)]
    assert letter(given_, links) == found


def test_a_scanner_that_comes_back():
    """Ten minutes around its burst a scanner's single clicks are its own; another address or program is a person's."""
    burst = [Click(START + timedelta(milliseconds=n), n, ("192.0.2.9", "Chrome")) for n in (1, 2, 3)]
    later = [
        Click(START + timedelta(minutes=9), 1, ("192.0.2.9", "Chrome")),
        Click(START - timedelta(minutes=9), 1, ("192.0.2.9", "Chrome")),
        Click(START + timedelta(minutes=11), 1, ("192.0.2.9", "Chrome")),
        Click(START + timedelta(minutes=9), 1, ("192.0.2.10", "Chrome")),
        Click(START + timedelta(minutes=9), 1, ("192.0.2.9", "Firefox")),
    ]
    assert letter([*burst, *later], 18)[3:] == [True, True, False, False, False]


visits = st.lists(
    st.builds(lambda s, who: Visit(START + timedelta(seconds=s), who), st.integers(0, 200), st.integers(1, 8)),
    max_size=40,
)


@given(visits, visits)
def test_crowd(given_, more):
    """A click is one of a crowd exactly if a minute around it holds five recipients; more clicks only add to it."""
    found = [False] * len(given_)
    for first in given_:
        window = [n for n, one in enumerate(given_) if timedelta() <= one.at - first.at <= CROWD_WINDOW]
        if len({given_[n].recipient for n in window}) >= CROWD:
            for n in window:
                found[n] = True
    assert crowd(given_) == found
    together = crowd([*given_, *more])[: len(given_)]
    assert all(not was or still for was, still in zip(found, together, strict=True))


def test_a_hundred_clicks_a_minute():
    """A hundred clicks a minute from one address are a machine's, though they were on one reader's letters only."""
    given_ = [Visit(START + timedelta(seconds=n / 2), 1) for n in range(CROWD_FLOOD)]
    assert all(crowd(given_))
    assert not any(crowd(given_[1:]))
