"""Addresses: what the fast path says is what email-validator says, and one person has one key."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbase.audience import addresses
from mailbase.errors import Invalid

ATOM = "abcXYZ019_!#$%&'*+-/=?^`{|}~.."
LIKELY = st.builds(
    "{}@{}".format,
    st.one_of(
        st.text(ATOM, min_size=0, max_size=70), st.sampled_from(["Info", "POSTMASTER", "a.b", '"q q"', "é", "İ"])
    ),
    st.one_of(
        st.from_regex(r"[A-Za-z0-9-]{0,64}(\.[A-Za-z0-9-]{0,64}){0,5}", fullmatch=True),
        st.sampled_from(
            [
                "Example.COM",
                "b.test",
                "localhost",
                "x.local",
                "xn--bcher-kva.example",
                "bücher.example",
                "[192.0.2.1]",
                "a.b1",
                "ab--c.com",
            ]
        ),
    ),
)


@given(st.one_of(LIKELY, st.text(max_size=80), st.emails()))
@example("a@" + ".".join(["x" * 60] * 4) + ".com")
@example("x" * 64 + "@" + "y" * 63 + ".com")
@example("x" * 65 + "@example.com")
@example("a@b.c\n")
@example("ａ@example.com")
def test_the_fast_path_says_what_the_library_says(text):
    """For every text the answer equals the library's, including the refusal."""
    assert addresses.read(text) == addresses.slow(text.strip(" \t\r\n"))


@given(st.one_of(LIKELY, st.emails()))
def test_a_key_is_its_own_key(text):
    """The key of an address, read as an address, is itself; so is the address as kept."""
    found = addresses.read(text)
    if isinstance(found, addresses.Address):
        again = addresses.read(found.email)
        assert again == found
        by_key = addresses.read(found.key)
        assert isinstance(by_key, addresses.Address)
        assert (by_key.key, by_key.domain) == (found.key, found.domain)


@pytest.mark.parametrize(
    ("text", "email", "key"),
    [
        ("  Ann.B+x@Example.COM ", "Ann.B+x@example.com", "ann.b+x@example.com"),
        ("Ann@BÜCHER.example", "Ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("почта@пример.рф", "почта@xn--e1afmkfd.xn--p1ai", "почта@xn--e1afmkfd.xn--p1ai"),
        ("ПОЧТА@example.com", "ПОЧТА@example.com", "почта@example.com"),
        ("a@b.test", "a@b.test", "a@b.test"),
        ("e\u0301@example.com", "é@example.com", "é@example.com"),
    ],
)
def test_what_is_kept(text, email, key):
    """The local part keeps its case for sending; the domain becomes its A-label in lower case; the key folds both."""
    found = addresses.parse(text)
    assert (found.email, found.key, found.domain) == (email, key, key.partition("@")[2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@b.example",
        "a b@c.example",
        "a@b",
        "a@b..c",
        "a@-b.example",
        "a@x.localhost",
        "Ann <a@b.example>",
        '"a b"@c.example',
        "a@[192.0.2.1]",
        "x" * 5000 + "@e.example",
    ],
)
def test_what_is_refused(text):
    """What no letter could be sent to is refused, with a sentence and the field's name."""
    with pytest.raises(Invalid) as refused:
        addresses.parse(text, field="to")
    assert refused.value.code == "invalid_email"
    assert refused.value.errors[0].field == "to"
    assert refused.value.message
