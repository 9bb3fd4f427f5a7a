"""What a field takes, as data: the embed script and the hosted page hold a value against the same rule that reads it here.

``pattern`` matches a whole value after the spaces around it are cut off, and means the same in Python and in browsers (flag ``v``).
"""

import re
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from mailbase.audience import phones
from mailbase.audience.form_definition import Field

LONGEST_TEXT: Final = 1000
LONGEST_EMAIL: Final = 254
EARLIEST: Final = "1900-01-01"
LATEST: Final = "2100-12-31"

_MONTH_DAY: Final = "(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_DATE: Final = f"[0-9]{{4}}-{_MONTH_DAY}"
_NUMBER: Final = (
    r"[+\-]?(?:"
    r"(?![1-9][0-9]{0,2}[.,][0-9]{3}(?![0-9]))[0-9]{1,15}(?:[.,][0-9]{1,10})?"
    r"|[0-9]{1,3}(?:[ \u00a0\u2009\u202f'\u2019][0-9]{3}){1,4}(?:[.,][0-9]{1,10})?"
    r"|[0-9]{1,3}(?:(?:\.[0-9]{3}){1,4},[0-9]{1,10}|(?:,[0-9]{3}){1,4}\.[0-9]{1,10})"
    r"|[0-9]{1,3}(?:(?:\.[0-9]{3}){2,4}|(?:,[0-9]{3}){2,4})"
    r")"
)
"""``1.5`` and ``1,5``, thousands apart (``1 000``, ``1.000,5``, ``1,000.5``, ``1.000.000``); ``1,000`` is a thousand to some and one to others."""
_EMAIL: Final = r"[^\s@]+@[^\s@]+"
_LINE: Final = r"[^\u0000-\u001f\u007f]*"


class Rule(Struct, frozen=True):
    """What a value must look like; ``min`` and ``max`` compare as text, which for ISO dates is as dates."""

    pattern: str
    longest: int
    """In UTF-16 units, as browsers count."""
    min: str | None = None
    max: str | None = None


@lru_cache(512)
def _rule(kind: str, year: str, country: str | None) -> Rule:
    match kind:
        case "phone":
            return Rule(phones.pattern(country), phones.LONGEST)
        case "date" if year == "optional":
            return Rule(f"(?:{_DATE}|--{_MONTH_DAY})", 10, EARLIEST, LATEST)
        case "date":
            return Rule(_DATE, 10, EARLIEST, LATEST)
        case "number":
            return Rule(_NUMBER, 32)
        case "email":
            return Rule(_EMAIL, LONGEST_EMAIL)
        case _:
            return Rule(_LINE, LONGEST_TEXT)


def rule(field: Field, country: str | None) -> Rule:
    """Return the rule of a field; ``country`` is the form's home (``phones.home``)."""
    return _rule(field.type, field.year, country)


@lru_cache(512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def breaks(text: str, held: Rule) -> str | None:
    """Return ``too_long`` or ``mismatch`` where a value does not keep a rule."""
    if len(text) > held.longest or len(text.encode("utf-16-le", "surrogatepass")) // 2 > held.longest:
        return "too_long"
    if not _compiled(held.pattern).fullmatch(text):
        return "mismatch"
    if held.min and held.max and not text.startswith("--") and not held.min <= text <= held.max:
        return "mismatch"
    return None


def shown(field: Field, country: str | None) -> dict[str, Any]:
    """Return the rule as ``config.json`` carries it."""
    held = rule(field, country)
    return {
        "pattern": held.pattern if field.type in {"phone", "date", "number", "email"} else None,
        "min": held.min,
        "max": held.max,
        "longest": held.longest,
        "maxlength": held.longest,
    }
