"""What a visitor filled in, read against the form: everything wrong is said at once, what nobody declared is ignored.

Values come as lists, whatever the encoding was: ``{"email": ["a@example.com"], "interests": ["news", "sale"]}``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from msgspec import Struct

from mailbase.audience import addresses, limits
from mailbase.audience.addresses import Address
from mailbase.audience.form_definition import Field, FormConsent
from mailbase.audience.forms import Form
from mailbase.errors import FieldError, Invalid
from mailbase.optin.words import mistakes

Values = Mapping[str, Sequence[Any]]

LONGEST_TEXT: Final = 1000
TICKED: Final = frozenset({"on", "true", "1", "yes"})

_PHONE = re.compile(r"\+?[0-9][0-9 ()./-]{2,31}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:[.,][0-9]{1,10})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Entry(Struct, kw_only=True):
    """A visitor's choices, typed."""

    address: Address
    attributes: dict[str, Any]
    interests: list[int]
    consents: list[FormConsent]


class _Wrong(Exception):
    """A mistake of the visitor's, by its code."""


def read(form: Form, values: Values, *, locale: str | None) -> Entry:
    """Return what was entered.

    Raises:
        Invalid: every field that needs the visitor's attention, in the visitor's language.

    """
    wrong: dict[str, str] = {}
    address = _address(values, wrong)
    attributes = _attributes(form, values, wrong)
    interests = _interests(form, values, wrong)
    consents: list[FormConsent] = []
    for consent in form.definition.consents:
        name = f"consent_{consent.purpose}"
        if _ticked(_one(values, name)):
            consents.append(consent)
        elif consent.required:
            wrong[name] = "consent_required"
    if wrong or address is None:
        said = mistakes(locale)
        errors = [FieldError(field, code, getattr(said, code)) for field, code in wrong.items()]
        raise Invalid(code="invalid_input", errors=errors)
    return Entry(address=address, attributes=attributes, interests=interests, consents=consents)


def _one(values: Values, name: str) -> Any:
    found = values.get(name) or ()
    return found[-1] if found else None


def _ticked(value: Any) -> bool:
    return (
        value is True
        or (isinstance(value, str) and value.strip().lower() in TICKED)
        or (type(value) is int and value == 1)
    )


def _address(values: Values, wrong: dict[str, str]) -> Address | None:
    given = _one(values, "email")
    if given is None or (isinstance(given, str) and not given.strip()):
        wrong["email"] = "required"
        return None
    found = addresses.read(given) if isinstance(given, str) and "\0" not in given else None
    if isinstance(found, Address):
        return found
    wrong["email"] = "invalid_email"
    return None


def _attributes(form: Form, values: Values, wrong: dict[str, str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for field in form.definition.fields:
        if field.name == "email":
            continue
        given = _one(values, field.name)
        try:
            value = _ticked(given) if field.type == "checkbox" else _value(field, given)
            if value is None or value is False:
                if field.required:
                    wrong[field.name] = "required"
                if value is None:
                    continue
        except _Wrong as mistake:
            wrong[field.name] = str(mistake)
            continue
        attributes[field.name] = value
    if limits.check_attributes(attributes):
        longest = max(attributes, key=lambda name: len(str(attributes[name])))
        wrong[longest] = "too_long"
    return attributes


def _value(field: Field, given: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = format(given, "g") if isinstance(given, float) and math.isfinite(given) else str(given)
    if not isinstance(given, str):
        raise _Wrong("invalid_value")
    text = given.strip()
    if len(text) > LONGEST_TEXT:
        raise _Wrong("too_long")
    if _CONTROL.search(text):
        raise _Wrong("invalid_value")
    return _READ[field.type](field, text) if text else None


def _text(_: Field, text: str) -> str:
    return text


def _email(_: Field, text: str) -> str:
    found = addresses.read(text)
    if isinstance(found, str):
        raise _Wrong("invalid_email")
    return found.email


def _phone(_: Field, text: str) -> str:
    if not _PHONE.fullmatch(text):
        raise _Wrong("invalid_phone")
    return text


def _date(_: Field, text: str) -> str:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise _Wrong("invalid_date")


def _number(_: Field, text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise _Wrong("invalid_number")
    return float(text.replace(",", ".")) if re.search("[.,]", text) else int(text)


def _option(field: Field, text: str) -> str:
    if text not in (field.options or []):
        raise _Wrong("invalid_option")
    return text


_READ: Final = {"text": _text, "email": _email, "phone": _phone, "date": _date, "number": _number, "select": _option}


def _interests(form: Form, values: Values, wrong: dict[str, str]) -> list[int]:
    offered = {interest.slug: interest.id for interest in form.interests}
    given = [slug for slug in values.get("interests") or () if slug != ""]
    if not given:
        return [] if form.definition.interest_choice else list(offered.values())
    if any(not isinstance(slug, str) or slug not in offered for slug in given):
        wrong["interests"] = "unknown_interest"
        return []
    return sorted({offered[slug] for slug in given})
