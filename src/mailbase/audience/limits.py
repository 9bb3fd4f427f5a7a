"""What may be kept about a person: the limits of attributes and tags, and what counts as a locale or a time zone."""

import math
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from mailbase.errors import FieldError

ATTRIBUTES: Final = 64
ATTRIBUTE_BYTES: Final = 16 * 1024
ATTRIBUTE_NAME: Final = re.compile(r"[^\W\d]\w{0,63}")
TAGS: Final = 64
TAG_LENGTH: Final = 64
LOCALE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}", re.ASCII)
WHOLE: Final = 2**63
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
ONE_LINE: Final = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"
"""What a name or a title is: no line ends of any kind, no control characters. In a ``Meta`` the refusal says so (``api.bodies``)."""


def is_line(text: str) -> bool:
    """Tell whether a text is one line without control characters."""
    return re.match(ONE_LINE, text) is not None


def is_prose(text: str) -> bool:
    """Tell whether a text holds no control characters; it may have lines."""
    return is_line(re.sub(r"[\t\r\n\x85\u2028\u2029]", " ", text))


def check_attributes(attributes: Mapping[str, Any], field: str = "attributes") -> list[FieldError]:
    """Return what is wrong with them: at most 64, names like identifiers, plain values or lists of text, 16 kB as JSON."""
    errors = []
    if len(attributes) > ATTRIBUTES:
        errors.append(FieldError(field, "too_many", f"At most {ATTRIBUTES} attributes are kept."))
    for name, value in attributes.items():
        if not ATTRIBUTE_NAME.fullmatch(name):
            errors.append(
                FieldError(
                    f"{field}.{name}",
                    "invalid_name",
                    "A name is letters, digits and _, at most 64, and starts with no digit.",
                )
            )
        elif not _is_plain(value):
            errors.append(
                FieldError(
                    f"{field}.{name}",
                    "invalid_value",
                    "A value is text, a number, true, false, null or a list of texts.",
                )
            )
    if not errors and len(msgspec.json.encode(attributes)) > ATTRIBUTE_BYTES:
        errors.append(FieldError(field, "too_large", "All attributes together are at most 16 kB of JSON."))
    return errors


def _is_plain(value: Any) -> bool:
    match value:
        case None | bool():
            return True
        case str():
            return "\0" not in value
        case int():
            return -WHOLE <= value < WHOLE
        case float():
            return math.isfinite(value)
        case list():
            return all(isinstance(item, str) and "\0" not in item for item in value)
        case _:
            return False


def check_tags(tags: Sequence[str], field: str = "tags") -> list[FieldError]:
    """Return what is wrong with them: at most 64 different ones of 1 to 64 characters."""
    errors = [
        FieldError(
            f"{field}.{place}",
            "invalid_value",
            f"A tag is 1 to {TAG_LENGTH} characters without control characters or spaces around it.",
        )
        for place, tag in enumerate(tags)
        if not tag or len(tag) > TAG_LENGTH or tag != tag.strip() or CONTROL.search(tag)
    ]
    if len(set(tags)) > TAGS:
        errors.append(FieldError(field, "too_many", f"At most {TAGS} tags are kept."))
    return errors


def check_locale(locale: str, field: str = "locale") -> list[FieldError]:
    """Return what is wrong with a language tag (RFC 5646 in its everyday form)."""
    return (
        []
        if is_locale(locale)
        else [FieldError(field, "invalid_value", "A locale looks like en, pt-BR or zh-Hant-TW.")]
    )


def check_timezone(timezone: str, field: str = "timezone") -> list[FieldError]:
    """Return what is wrong with the name of a time zone."""
    return (
        []
        if is_timezone(timezone)
        else [FieldError(field, "invalid_value", "A time zone is a name of the IANA database, such as Europe/Berlin.")]
    )


def is_locale(locale: str) -> bool:
    """Return whether this is a language tag."""
    return LOCALE.fullmatch(locale) is not None


@lru_cache(1024)
def is_timezone(timezone: str) -> bool:
    """Return whether the IANA database has this zone."""
    return timezone in _timezones()


@lru_cache(1)
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) | {"UTC"}
