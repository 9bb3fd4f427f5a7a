"""What an address gives away by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience import addresses
from mailbase.optin import address_hints, address_kinds, mailboxes


def read(text):
    """Return the address."""
    return addresses.parse(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ada@gmial.com", "ada@gmail.com"),
        ("ada@gmai.com", "ada@gmail.com"),
        ("Ada.B@gmail.con", "Ada.B@gmail.com"),
        ("ada@hotmial.com", "ada@hotmail.com"),
        ("ada@yandx.ru", "ada@yandex.ru"),
        ("ada@outlok.com", "ada@outlook.com"),
        ("ada@shop-of-mine.con", "ada@shop-of-mine.com"),
        ("ada@gmail.com", None),
        ("ada@mail.com", None),
        ("ada@email.com", None),
        ("ada@mail.ru", None),
        ("ada@example.org", None),
        ("ada@ya.ru", None),
        ("ada@aol.de", None),
        ("no address", None),
    ],
)
def test_a_slip_in_the_domain_is_seen(typed, meant):
    """The big providers' names, mistyped; everybody else's are left alone."""
    assert address_hints.hint(typed) == meant


WORDS = st.text("abc", max_size=7)


@given(WORDS, WORDS)
def test_a_distance_is_a_distance(one, other):
    """It is the same both ways, nothing between a word and itself, and at most the longer word."""
    slips = address_hints.distance(one, other)
    assert slips == address_hints.distance(other, one)
    assert (slips == 0) == (one == other)
    assert abs(len(one) - len(other)) <= slips <= max(len(one), len(other))


def test_throw_away_mailboxes_are_known():
    """By their domain or one above it; a slip of a large provider's name is one, though the list has it."""
    for text in ("a@mailinator.com", "a@yopmail.com", "a@sub.mailinator.com"):
        assert address_kinds.is_disposable(read(text)), text
    for text in ("a@gmail.com", "a@example.org", "a@mailinator.com.example", "a@gmial.com", "a@hotmai.com"):
        assert not address_kinds.is_disposable(read(text)), text


def test_offices_are_known():
    """Whatever their case and tag."""
    for text in ("Info@shop.example", "no-reply@shop.example", "postmaster+x@shop.example", "list-owner@shop.example"):
        assert address_kinds.is_role(read(text)), text
    for text in ("informed@shop.example", "ada@shop.example"):
        assert not address_kinds.is_role(read(text)), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("аda@example.org", True),  # a Cyrillic а
        ("ada@exаmple.org", True),
        ("adα@example.org", True),
        ("ада@пример.example", False),
        ("ada@bücher.example", False),
        ("jörg@bücher.example", False),
        ("ada@example.org", False),
        ("あだ木@例え.example", False),
    ],
)
def test_borrowed_letters_are_seen(text, expected):
    """A word that mixes scripts looks like another; one in a script of its own does not."""
    assert address_kinds.looks_like_another(read(text)) is expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A.da+shop@googlemail.com", "ada@gmail.com", True),
        ("a.da@ya.ru", "a-da@yandex.com", True),
        ("ada+1@outlook.com", "ada@outlook.com", True),
        ("ada@outlook.com", "ada@hotmail.com", False),
        ("a.da@example.org", "ada@example.org", False),
        ("ada+1@example.org", "ada@example.org", False),
        ("ADA@example.org", "ada@EXAMPLE.org", True),
    ],
)
def test_spellings_of_one_mailbox_are_one(one, other, same):
    """Where the provider is known to fold them."""
    assert (mailboxes.of(read(one)).key == mailboxes.of(read(other)).key) is same


def test_tags_of_unknown_hosts_are_a_family():
    """Nobody knows whether they end in one mailbox."""
    assert mailboxes.of(read("ada+1@example.org")).family == mailboxes.of(read("ada+2@example.org")).family is not None
    assert mailboxes.of(read("ada@example.org")).family is None
    assert mailboxes.of(read("+1@example.org")).family is None
