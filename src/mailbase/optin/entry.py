"""What a visitor filled in, read against the form: everything wrong is said at once, what nobody declared is ignored.

Values come as lists, whatever the encoding was: ``{"email": ["a@example.com"], "interests": ["news", "sale"]}``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

from msgspec import Struct

from mailbase.audience import addresses, limits, phones
from mailbase.audience.addresses import Address
from mailbase.audience.form_definition import Field, FormConsent
from mailbase.audience.forms import Form
from mailbase.errors import FieldError, Invalid
from mailbase.optin.field_rules import breaks, rule
from mailbase.optin.words import mistakes

Values = Mapping[str, Sequence[Any]]

TICKED: Final = frozenset({"on", "true", "1", "yes"})
PARTS: Final = ("day", "month", "year")
"""A date may come in three fields, ``born.day`` and so on: the page without a script asks so."""

LARGEST_NUMBER: Final = 10**15
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VERSION = re.compile(r"[0-9a-f]{12,64}")
_SHOWN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):([0-9a-f]{12,64})")


class Entry(Struct, kw_only=True):
    """A visitor's choices, typed."""

    address: Address
    attributes: dict[str, Any]
    interests: list[int]
    consents: list[FormConsent]
    shown: dict[str, str] = {}
    """By purpose, the version of the words the visitor had before them, as far as their page says so."""


class _Wrong(Exception):
    """A mistake of the visitor's, by its code."""


def read(form: Form, values: Values, *, locale: str | None, home: str | None = None) -> Entry:
    """Return what was entered; ``home`` is the language tag that names the country of telephone numbers where the form has none.

    Answers to later steps are taken where they are there already.

    Raises:
        Invalid: every field that needs the visitor's attention, in the visitor's language.

    """
    wrong: dict[str, str] = {}
    address = _address(values, wrong)
    attributes = _attributes(form, values, wrong, step=1, home=home)
    interests = _interests(form, values, wrong)
    shown = _shown(values)
    consents: list[FormConsent] = []
    for consent in form.definition.consents:
        name = f"consent_{consent.purpose}"
        given = _one(values, name)
        if isinstance(given, str) and _VERSION.fullmatch(given):
            shown.setdefault(consent.purpose, given)
            given = True
        if _ticked(given):
            consents.append(consent)
        elif consent.required:
            wrong[name] = "consent_required"
    if wrong or address is None:
        raise _refusal(wrong, locale)
    return Entry(address=address, attributes=attributes, interests=interests, consents=consents, shown=shown)


def answers(
    form: Form, values: Values, *, step: Literal[2, 3], locale: str | None, home: str | None = None
) -> dict[str, Any]:
    """Return the answers to a later step.

    Raises:
        Invalid: every field that needs another look.

    """
    wrong: dict[str, str] = {}
    attributes = _attributes(form, values, wrong, step=step, home=home)
    if wrong:
        raise _refusal(wrong, locale)
    return attributes


def _refusal(wrong: Mapping[str, str], locale: str | None) -> Invalid:
    said = mistakes(locale)
    errors = [FieldError(field, code, getattr(said, code)) for field, code in wrong.items()]
    return Invalid(code="invalid_input", errors=errors)


def _shown(values: Values) -> dict[str, str]:
    found: dict[str, str] = {}
    for given in list(values.get("_consent_versions") or ())[:20]:
        if isinstance(given, str):
            found |= dict(_SHOWN.findall(given[:2000]))
        elif isinstance(given, Mapping):
            pairs = [f"{purpose}:{version}" for purpose, version in given.items()]
            found |= {match[1]: match[2] for pair in pairs[:20] if (match := _SHOWN.fullmatch(pair))}
    return found


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


def _attributes(form: Form, values: Values, wrong: dict[str, str], *, step: int, home: str | None) -> dict[str, Any]:
    country = phones.home(form.definition.locale or home)
    attributes: dict[str, Any] = {}
    for field in form.definition.fields:
        if field.name == "email" or (step > 1 and field.step != step):
            continue
        try:
            value = _answer(field, values, country)
        except _Wrong as mistake:
            wrong[field.name] = str(mistake)
            continue
        if (value is None or value is False) and field.required and field.step == step:
            wrong[field.name] = "required"
        if value is not None and (value is not False or field.step == step):
            attributes[field.name] = value
    if limits.check_attributes(attributes):
        longest = max(attributes, key=lambda name: len(str(attributes[name])))
        wrong[longest] = "too_long"
    return attributes


def _answer(field: Field, values: Values, country: str | None) -> Any:
    given = _one(values, field.name)
    if field.type == "checkbox":
        return _ticked(given)
    if field.type == "date" and (given is None or given == ""):
        given = _from_parts(field, values)
    if field.type == "hidden" and given is None:
        given = field.value
    return _value(field, given, country)


def _from_parts(field: Field, values: Values) -> str | None:
    day, month, year = (str(_one(values, f"{field.name}.{part}") or "").strip()[:8] for part in PARTS)
    if not (day or month or year):
        return None
    if not all(part.isascii() and part.isdecimal() for part in (day, month, year or "0")):
        raise _Wrong("invalid_date")
    return f"{year or '-'}-{int(month):02}-{int(day):02}"


def _value(field: Field, given: Any, country: str | None) -> Any:
    if given is None:
        return None
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if field.type == "number" and abs(given) < LARGEST_NUMBER:
            return int(given) if given == int(given) else given
        given = format(given, "g") if isinstance(given, float) and math.isfinite(given) else str(given)
    if not isinstance(given, str):
        raise _Wrong("invalid_value")
    text = given.strip()
    if not text:
        return None
    held = rule(field, country)
    broken = breaks(text, held)
    if broken == "too_long":
        raise _Wrong("too_long")
    if _CONTROL.search(text):
        raise _Wrong("invalid_value")
    if broken:
        raise _Wrong(f"invalid_{field.type}")
    return _READ[field.type](field, text, country)


def _text(_: Field, text: str, __: str | None) -> str:
    return text


def _email(_: Field, text: str, __: str | None) -> str:
    found = addresses.read(text)
    if isinstance(found, str):
        raise _Wrong("invalid_email")
    return found.email


def _phone(_: Field, text: str, country: str | None) -> str:
    found = phones.read(text, country)
    if found is None:
        raise _Wrong("invalid_phone")
    return found


def _date(_: Field, text: str, __: str | None) -> str:
    try:
        # A day without its year is one of a leap year: people are born on 29 February.
        date.fromisoformat(text.replace("--", "2000-", 1) if text.startswith("--") else text)
    except ValueError:
        raise _Wrong("invalid_date") from None
    return text


def _number(_field: Field, text: str, _country: str | None) -> int | float:
    whole, decimals = text, ""
    signs = re.findall("[.,]", text)
    if len(set(signs)) == 2 or len(signs) == 1:
        whole, _, decimals = text.rpartition(signs[-1])
    digits = re.sub(r"[^0-9+\-]", "", whole)
    return float(f"{digits}.{decimals}") if decimals else int(digits)


def _option(field: Field, text: str, _: str | None) -> str:
    if text not in (field.options or []):
        raise _Wrong("invalid_option")
    return text


_READ: Final = {
    "text": _text,
    "hidden": _text,
    "email": _email,
    "phone": _phone,
    "date": _date,
    "number": _number,
    "select": _option,
}


def _interests(form: Form, values: Values, wrong: dict[str, str]) -> list[int]:
    offered = {interest.slug: interest.id for interest in form.interests}
    given = [slug for slug in values.get("interests") or () if slug != ""]
    if not given:
        return [] if form.definition.interest_choice else list(offered.values())
    if any(not isinstance(slug, str) or slug not in offered for slug in given):
        wrong["interests"] = "unknown_interest"
        return []
    return sorted({offered[slug] for slug in given})
