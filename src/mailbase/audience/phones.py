"""Telephone numbers: read as people write them, kept as E.164 (``+493012345``).

A number that begins with ``+`` or ``00`` says its country; any other is one of the form's home country, if its language names one.
What is accepted is one regular expression for each home, the same in the browser and here. Lengths are those of the countries'
numbering plans (ITU-T E.164 and its list of assigned codes); whether anybody answers is not looked at.
"""

import re
from functools import cache
from typing import Final, NamedTuple

# Assigned country codes. 7 (Russia, Kazakhstan) stands apart: all its numbers have ten digits, and typing one digit short is common.
_CODES: Final = (
    "1|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|21[12368]|2[2-46][0-9]|25[0-8]|29[01789]|35[0-9]|37[0-8]|38[0-35-79]|42[013]|50[0-9]|59[0-9]|67[02-9]|68[0-35-9]|69[0-2]"
    "|85[02356]|87[08]|88[01236]|96[0-8]|97[0-79]|99[2-68]"
)
_GAP: Final = r"[\s\(\)\.\/\-\u2010-\u2015]*"
_ZERO: Final = re.compile(rf"(\+\s*(?:{_CODES})\s*)\(\s*0\s*\)")
# "+49 (0)30 …": the zero is dialled within the country only.
LONGEST: Final = 40


class Country(NamedTuple):
    """A numbering plan: what is dialled before a number within the country, and how a number without that looks."""

    code: str
    before: tuple[str, ...]
    first: str
    shortest: int
    longest: int


_ANY: Final = "[1-9]"
COUNTRIES: Final = {
    "AT": Country("43", ("0",), _ANY, 4, 12),
    "AU": Country("61", ("0",), _ANY, 9, 9),
    "AM": Country("374", ("0",), _ANY, 8, 8),
    "BE": Country("32", ("0",), _ANY, 8, 9),
    "BG": Country("359", ("0",), _ANY, 7, 9),
    "BR": Country("55", ("0", ""), _ANY, 10, 11),
    "BY": Country("375", ("80",), _ANY, 9, 9),
    "CA": Country("1", ("1", ""), "[2-9]", 10, 10),
    "CH": Country("41", ("0",), _ANY, 9, 9),
    "CZ": Country("420", ("",), _ANY, 9, 9),
    "DE": Country("49", ("0",), _ANY, 5, 12),
    "DK": Country("45", ("",), _ANY, 8, 8),
    "EE": Country("372", ("",), _ANY, 7, 8),
    "ES": Country("34", ("",), "[5-9]", 9, 9),
    "FI": Country("358", ("0",), _ANY, 5, 11),
    "FR": Country("33", ("0",), _ANY, 9, 9),
    "GB": Country("44", ("0",), _ANY, 9, 10),
    "GE": Country("995", ("0", ""), _ANY, 9, 9),
    "GR": Country("30", ("",), "[26]", 10, 10),
    "HR": Country("385", ("0",), _ANY, 8, 9),
    "HU": Country("36", ("06",), _ANY, 8, 9),
    "IE": Country("353", ("0",), _ANY, 7, 9),
    "IL": Country("972", ("0",), _ANY, 8, 9),
    "IT": Country("39", ("",), "[03]", 6, 11),
    "KG": Country("996", ("0",), _ANY, 9, 9),
    "KZ": Country("7", ("8", "7", ""), "[67]", 10, 10),
    "LT": Country("370", ("0", "8"), _ANY, 8, 8),
    "LV": Country("371", ("",), _ANY, 8, 8),
    "MD": Country("373", ("0",), _ANY, 8, 8),
    "NL": Country("31", ("0",), _ANY, 9, 9),
    "NO": Country("47", ("",), _ANY, 8, 8),
    "NZ": Country("64", ("0",), _ANY, 8, 10),
    "PL": Country("48", ("",), _ANY, 9, 9),
    "PT": Country("351", ("",), "[29]", 9, 9),
    "RO": Country("40", ("0",), _ANY, 9, 9),
    "RS": Country("381", ("0",), _ANY, 8, 9),
    "RU": Country("7", ("8", "7", ""), "[3489]", 10, 10),
    "SE": Country("46", ("0",), _ANY, 7, 9),
    "SI": Country("386", ("0",), _ANY, 8, 8),
    "SK": Country("421", ("0",), _ANY, 9, 9),
    "TR": Country("90", ("0", ""), _ANY, 10, 10),
    "UA": Country("380", ("0",), _ANY, 9, 9),
    "US": Country("1", ("1", ""), "[2-9]", 10, 10),
    "UZ": Country("998", ("",), _ANY, 9, 9),
}
"""By ISO 3166 code."""

_HOMES: Final = {
    "be": "BY", "bg": "BG", "cs": "CZ", "da": "DK", "de": "DE", "el": "GR", "et": "EE", "fi": "FI", "fr": "FR", "he": "IL", "hr": "HR",
    "hu": "HU", "hy": "AM", "it": "IT", "ka": "GE", "kk": "KZ", "ky": "KG", "lt": "LT", "lv": "LV", "nb": "NO", "nl": "NL", "nn": "NO",
    "no": "NO", "pl": "PL", "ro": "RO", "ru": "RU", "sk": "SK", "sl": "SI", "sr": "RS", "sv": "SE", "tr": "TR", "uk": "UA", "uz": "UZ",
}  # fmt: skip
# A language whose numbers are taken for one country's where no region is named; English, Spanish, Portuguese … name none.


def home(locale: str | None) -> str | None:
    """Return the country whose numbers need no code: the tag's region (``de-AT``), else its language's, else None."""
    parts = (locale or "").replace("_", "-").split("-")
    region = next((part.upper() for part in parts[1:] if len(part) == 2), None)
    return (region if region in COUNTRIES else None) if region else _HOMES.get(parts[0].lower())


@cache
def pattern(country: str | None) -> str:
    """Return what is accepted, as a regular expression both Python and browsers read (it matches a whole value)."""
    digit = f"(?:{_GAP}[0-9])"
    kinds = [rf"(?:\+|00){_GAP}(?:7{_GAP}[3-9]{digit}{{9}}|(?:{_CODES}){digit}{{5,12}})"]
    if plan := COUNTRIES.get(country or ""):
        for before in plan.before:
            dialled = "".join(f"{number}{_GAP}" for number in before)
            kinds.append(f"{dialled}{plan.first}{digit}{{{plan.shortest - 1},{plan.longest - 1}}}")
    return f"{_GAP}(?:{'|'.join(kinds)}){_GAP}"


@cache
def _compiled(country: str | None) -> re.Pattern[str]:
    return re.compile(pattern(country))


def read(text: str, country: str | None) -> str | None:
    """Return the number as E.164, or None."""
    if len(text) > LONGEST or not _compiled(country).fullmatch(text):
        return None
    digits = re.sub("[^0-9]", "", _ZERO.sub(r"\1", text))
    if "+" in text or digits.startswith("00"):
        return f"+{digits.removeprefix('00')}"
    plan = COUNTRIES[country or ""]
    for before in plan.before:
        number = digits.removeprefix(before)
        if digits.startswith(before) and plan.shortest <= len(number) <= plan.longest and re.match(plan.first, number):
            return f"+{plan.code}{number}"
    return None
