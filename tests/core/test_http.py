"""Whose request it is, and what its sender would rather read."""

from ipaddress import ip_network

import pytest

from mailbase.http import client_ip, is_local, preferred

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def scope(peer: str | None, **headers: str) -> dict:
    return {
        "client": (peer, 1) if peer else None,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "wanted"),
    [
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "203.0.113.1, 10.9.9.9", "203.0.113.1"),
        ("10.0.0.1", "10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ("10.0.0.1", "203.0.113.1, nonsense, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "203.0.113.1:5555", "203.0.113.1"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_the_nearest_hop_nobody_vouches_for(peer: str, forwarded: str, wanted: str):
    """The right-most address that is not a trusted proxy's is the visitor's, and only a trusted peer may name any."""
    assert str(client_ip(scope(peer, x_forwarded_for=forwarded), TRUSTED)) == wanted


def test_no_peer_no_address():
    """A connection through a socket file has no address."""
    assert client_ip(scope(None), TRUSTED) is None


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, True),
        ("::1", {"host": "[::1]:8000"}, True),
        ("127.0.0.1", {"host": "localhost"}, True),
        ("127.0.0.1", {"host": "news.example.com"}, False),
        ("127.0.0.1", {"host": "localhost", "x_forwarded_for": "203.0.113.1"}, False),
        ("127.0.0.1", {"host": "localhost", "forwarded": "for=203.0.113.1"}, False),
        ("203.0.113.1", {"host": "localhost"}, False),
    ],
)
def test_local_is_straight_from_this_machine(peer: str, headers: dict[str, str], local: bool):
    """Neither a proxy on this machine nor a name that resolves to it makes a stranger local."""
    assert is_local(scope(peer, **headers)) is local


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, "html"),
        ({"accept": "application/json"}, "json"),
        ({"accept": "application/json, text/html"}, "json"),
        ({"accept": "*/*"}, "json"),
        ({}, "json"),
        ({"accept": "text/html", "content_type": "application/json; charset=utf-8"}, "json"),
    ],
)
def test_browsers_get_pages(headers: dict[str, str], wanted: str):
    """Whoever names text/html first gets a page, everybody else and every JSON body gets JSON."""
    assert preferred(scope("203.0.113.1", **headers)) == wanted
