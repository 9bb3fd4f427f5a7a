"""Signed tokens."""

from hypothesis import given
from hypothesis import strategies as st

from mailbase.tokens import Tokens
from mailbase.vault import key_id

OLD, NEW = "an-old-secret-of-some-length", "a-new-secret-of-some-length"
numbers = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)


@given(numbers)
def test_what_was_signed_is_read(values):
    """A token gives back exactly the numbers it was made of."""
    assert Tokens([NEW]).read("letter", Tokens([NEW]).sign("letter", *values), len(values)) == tuple(values)


@given(numbers)
def test_one_purpose_opens_no_other(values):
    """A token of one purpose is nothing for another, nor for another count of numbers."""
    tokens = Tokens([NEW])
    token = tokens.sign("letter", *values)

    assert tokens.read("unsubscribe", token, len(values)) is None
    assert tokens.read("letter", token, len(values) + 1) is None


@given(numbers, st.data())
def test_any_changed_character_is_refused(values, data):
    """No single changed character leaves a token valid."""
    token = Tokens([NEW]).sign("letter", *values)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != token[at]))

    assert Tokens([NEW]).read("letter", token[:at] + other + token[at + 1 :], len(values)) is None


@given(st.text(max_size=200))
def test_noise_is_refused(noise):
    """Arbitrary text is never a token."""
    assert Tokens([NEW]).read("letter", noise, 1) is None


def test_tokens_outlive_a_rotation():
    """What an old secret signed is still read while that secret is listed."""
    token = Tokens([OLD]).sign("unsubscribe", 7)

    assert Tokens([NEW, OLD]).read("unsubscribe", token, 1) == (7,)
    assert Tokens([NEW]).read("unsubscribe", token, 1) is None


def test_secrets_with_the_same_byte_are_both_tried():
    """Two secrets whose key ids begin alike are told apart by their MACs: the first signs, both are read."""
    alike = next(f"{NEW} {n}" for n in range(100_000) if key_id(f"{NEW} {n}")[:1] == key_id(NEW)[:1])
    old = Tokens([alike]).sign("unsubscribe", 7)
    both = Tokens([NEW, alike])

    assert both.read("unsubscribe", old, 1) == (7,)
    assert both.sign("unsubscribe", 7) == Tokens([NEW]).sign("unsubscribe", 7)
    assert both.read("unsubscribe", both.sign("unsubscribe", 8), 1) == (8,)
    assert Tokens([NEW]).read("unsubscribe", old, 1) is None
