"""Telephone numbers: as people write them in, E.164 out."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience import phones

WRITTEN = [
    ("+49 30 123456", None, "+4930123456"),
    ("+49 (0)30 / 12 34-56", None, "+4930123456"),
    ("0049 30 123456", "ru", "+4930123456"),
    ("030 123456", "de", "+4930123456"),
    ("030 123456", "de-AT", "+4330123456"),
    ("8 (903) 123-45-67", "ru", "+79031234567"),
    ("903 123 45 67", "ru", "+79031234567"),
    ("7 903 123-45-67", "ru", "+79031234567"),
    ("80 29 123 45 67", "be", "+375291234567"),
    ("06 12 34 56 78", "fr", "+33612345678"),
    ("02 1234 5678", "it", "+390212345678"),
    ("(415) 555-2671", "en-US", "+14155552671"),
    ("1-415-555-2671", "en-US", "+14155552671"),
    ("020 7946 0958", "en-GB", "+442079460958"),
    ("+1 415 555 2671", "ru", "+14155552671"),
    ("+7\u00a0903\u00a0123\u201145\u201167", None, "+79031234567"),
]
REFUSED = [
    ("call me", "de"),
    ("030 123456", None),
    ("030 123456", "en"),
    ("+49", "de"),
    ("+49 30", "de"),
    ("+7 903 123-45-6", None),
    ("+7 003 123-45-67", None),
    ("+999 123 456 789", None),
    ("+210 123 456 789", None),
    ("8 (203) 123-45-67", "ru"),
    ("+49 30 1234567890123", None),
    ("030 123456 ext. 7", "de"),
    ("++49 30 123456", None),
    ("", "de"),
]


def test_a_number_is_kept_as_e164():
    """With its country where it is said, else the one the form's language names."""
    for text, locale, number in WRITTEN:
        assert phones.read(text, phones.home(locale)) == number, text


def test_what_is_no_number_is_refused():
    """Too short, too long, no country, an unassigned code, anything else."""
    for text, locale in REFUSED:
        assert phones.read(text, phones.home(locale)) is None, text


@given(
    st.sampled_from([None, *phones.COUNTRIES]).flatmap(
        lambda home: st.tuples(st.just(home), st.from_regex(phones.pattern(home), fullmatch=True))
    )
)
def test_the_pattern_is_the_rule(case):
    """Whatever the pattern takes becomes a number of 6 to 15 digits that reads as itself; so a browser that knows it refuses the same."""
    home, text = case
    number = phones.read(text, home)
    if len(text) <= phones.LONGEST:
        assert number is not None
        assert re.fullmatch(r"\+[1-9][0-9]{5,14}", number)


@given(st.text(alphabet="+0123456789 ()-/.x", max_size=45), st.sampled_from([None, *phones.COUNTRIES]))
def test_any_text_is_a_number_or_none(text, home):
    """Nothing else comes out, and only what the pattern takes."""
    number = phones.read(text, home)
    assert (number is None) == (len(text) > phones.LONGEST or not re.fullmatch(phones.pattern(home), text))
