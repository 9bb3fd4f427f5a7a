"""Human or machine, from one request and from a burst."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.signals.verdicts import BURST_LINKS, BURST_WINDOW, FLOOD, Click, burst, judge

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
WEBVIEW = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
START = datetime(2026, 3, 14, 12, tzinfo=UTC)


def verdict(kind, user_agent=FIREFOX, *, head=False, purpose="", address="192.0.2.1"):
    """Judge one request."""
    return judge(kind, head=head, purpose=purpose, user_agent=user_agent, address=address and ip_address(address))


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


clicks = st.lists(
    st.builds(
        lambda ms, link: Click(START + timedelta(milliseconds=ms), link), st.integers(0, 4000), st.integers(1, 5)
    ),
    max_size=45,
)


def by_definition(given_):
    """Say the same as ``burst``, straight from its definition."""
    found = [False] * len(given_)
    for first in given_:
        window = [n for n, click in enumerate(given_) if first.at <= click.at <= first.at + BURST_WINDOW]
        if len({given_[n].link for n in window}) >= BURST_LINKS or len(window) >= FLOOD:
            for n in window:
                found[n] = True
    return found


@given(clicks)
def test_burst(given_):
    """A click lies in a burst exactly if some second around it holds three distinct links or twenty clicks."""
    assert burst(given_) == by_definition(given_)


@given(clicks, clicks)
def test_burst_only_grows(given_, more):
    """Further clicks never take a click out of a burst."""
    alone = burst(given_)
    together = burst([*given_, *more])[: len(given_)]
    assert all(not was or still for was, still in zip(alone, together, strict=True))
