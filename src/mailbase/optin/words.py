"""What the confirmation letter says, and what stands beside a field that is wrong; from the files of the pages' words."""

import msgspec
from msgspec import Struct

from mailbase.pages.words import Language, spoken


class Words(Struct, frozen=True):
    """The standard confirmation letter. ``{title}`` is the form's title."""

    subject: str
    preview: str
    heading: str
    lead: str
    chosen: str
    button: str
    open: str
    agreed: str
    fallback: str
    ignore: str


def words(locale: str | None) -> Words:
    """Return the words for a language tag."""
    return msgspec.convert(spoken().words(spoken().choose(locale)).table["letter"], Words)


def letter_language(locale: str | None) -> Language:
    """Return the language ``words`` answers in."""
    return spoken().choose(locale)


class Mistakes(Struct, frozen=True):
    """What is said beside a field, by the code of its mistake."""

    required: str
    invalid_email: str
    invalid_phone: str
    invalid_date: str
    invalid_number: str
    invalid_option: str
    invalid_value: str
    too_long: str
    unknown_interest: str
    consent_required: str
    disposable_address: str
    role_address: str


def mistakes(locale: str | None) -> Mistakes:
    """Return the sentences for a language tag."""
    return msgspec.convert(spoken().words(spoken().choose(locale)).table["mistakes"], Mistakes)
