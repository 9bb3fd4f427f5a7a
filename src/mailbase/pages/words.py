"""What the public pages say: one TOML file a language, read as ``words(language).section.key``.

English and Russian are ours; an owner adds others in ``DATA_DIR/locales/xx.toml``. Whatever such a file leaves out is ours, or English. A
sentence may be filled in (``{email}``) with what the English one names, and nothing else; a table is one sentence in its plural
forms, ``{n}`` the number.
"""

import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mailbase.errors import ConfigError
from mailbase.pages import plurals

Language = str
"""The primary subtag of a language the pages speak: ``en``, ``ru``, or an owner's."""
Text = str | list[str] | dict[str, str]
Table = Mapping[str, Mapping[str, Text]]

HERE: Final = Path(__file__).parent.parent / "web" / "locales"
ENGLISH: Final = "en"
MOST_FILE: Final = 128 * 1024
MOST_TEXT: Final = 1000
_TAG: Final = re.compile(r"[a-z]{2,3}")


class Section:
    """The sentences of one page: ``said.confirm.title``, ``said.errors.plural("slow_text", 3)``."""

    def __init__(self, language: Language, texts: Mapping[str, Text]) -> None:
        self._language = language
        self._texts = texts

    def __getattr__(self, key: str) -> str:
        """Return a sentence as it stands; ``{…}`` are the caller's to ``format``."""
        if isinstance(text := self._texts.get(key), str):
            return text
        raise AttributeError(key)

    def plural(self, key: str, n: int, **values: Any) -> str:
        """Return a sentence in the form ``n`` takes, filled in."""
        if isinstance(table := self._texts.get(key), dict):
            return plural(self._language, table, n, **values)
        raise AttributeError(key)


class Words:
    """One language."""

    def __init__(self, language: Language, table: Table) -> None:
        self.language = language
        self.table = table
        """As templates read it: ``words.section.key``."""
        self._sections = {name: Section(language, texts) for name, texts in table.items()}

    def __getattr__(self, name: str) -> Section:
        """Return a section."""
        try:
            return self._sections[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def direction(self) -> str:
        """Return which way the script runs: ``ltr`` or ``rtl``."""
        return "rtl" if self._sections["language"].direction == "rtl" else "ltr"

    def date(self, at: datetime, *, time: bool = False) -> str:
        """Return a date as people write it in this language, in the time zone ``at`` carries; UTC is said."""
        dates = self.table["dates"]
        months = dates["months"]
        said = self.dates.date.format(day=at.day, month=months[at.month - 1], year=at.year)  # type: ignore[index]
        if time:
            said = self.dates.time.format(date=said, hour=f"{at.hour:02}", minute=f"{at.minute:02}")
            said += f" {self.dates.utc}" if at.tzname() == "UTC" else ""
        return said


def plural(language: Language, table: Mapping[str, str], n: int, **values: Any) -> str:
    """Return the form of a sentence that ``n`` takes, filled in."""
    text = table.get(plurals.form(language, n)) or table["other"]
    return text.format(n=n, **values)


class Languages:
    """The languages the pages speak."""

    def __init__(self, tables: Mapping[Language, Table]) -> None:
        self._words = {language: Words(language, table) for language, table in tables.items()}

    def __iter__(self) -> Any:
        """Return the languages' tags."""
        return iter(self._words)

    def words(self, language: Language) -> Words:
        """Return the sentences of a language, or the English ones."""
        return self._words.get(language) or self._words[ENGLISH]

    def choose(self, *locales: str | None, accept: str = "", default: str | None = None) -> Language:
        """Return the first of these language tags that is given, else what ``Accept-Language`` likes best, else the default's."""
        for locale in locales:
            if locale:
                return self._spoken(locale) or ENGLISH
        for tag in _liked(accept):
            if spoken := self._spoken(tag):
                return spoken
        return self._spoken(default or "") or ENGLISH

    def _spoken(self, tag: str) -> Language | None:
        primary = tag.strip().lower().replace("_", "-").split("-")[0]
        return primary if primary in self._words else None


@cache
def built_in() -> Mapping[Language, Table]:
    """Return our own languages."""
    return MappingProxyType({file.stem: read(file) for file in sorted(HERE.glob("*.toml"))})


def read(file: Path) -> Table:
    """Read one language; what an owner's file leaves out is English.

    Raises:
        ConfigError: the file is no TOML, or says something no page asks for or can fill in; with its name and the key.

    """
    try:
        if file.stat().st_size > MOST_FILE:
            raise ConfigError(f"{file}: larger than {MOST_FILE // 1024} kB")
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    if file == HERE / f"{ENGLISH}.toml":
        return given
    if not _TAG.fullmatch(file.stem):
        raise ConfigError(f"{file}: a language's file is called by its tag, as de.toml")
    if wrong := mistake(file.stem, given):
        raise ConfigError(f"{file}: {wrong}")
    ours = HERE / file.name
    return merged(read(ours) if ours.exists() and file != ours else built_in_english(), given)


@cache
def built_in_english() -> Table:
    """Return what every other language is held against."""
    return read(HERE / f"{ENGLISH}.toml")


def merged(under: Table, over: Mapping[str, Mapping[str, Text]]) -> Table:
    """Return a language with some of its sentences replaced."""
    return {name: {**texts, **over.get(name, {})} for name, texts in under.items()}


def sections(flat: Mapping[str, Text]) -> dict[str, dict[str, Text]]:
    """Return ``{"confirm.title": …}`` as ``{"confirm": {"title": …}}``."""
    found: dict[str, dict[str, Text]] = {}
    for name, text in flat.items():
        section, _, key = name.partition(".")
        found.setdefault(section, {})[key] = text
    return found


def with_texts(table: Table, own: Mapping[str, Mapping[str, Text]]) -> Table:
    """Return a language in an owner's words; those for pages of another version are passed over."""
    known = {
        name: {key: text for key, text in texts.items() if key in table[name]}
        for name, texts in own.items()
        if name in table
    }
    return merged(table, known)


def mistake(language: Language, given: Mapping[str, Any]) -> str | None:
    """Return what is wrong with somebody's sentences, or None: a key we do not have, a place we cannot fill in, a missing plural."""
    english = built_in_english()
    for section, texts in given.items():
        if section not in english:
            return f"[{section}] is no section"
        if not isinstance(texts, dict):
            return f"{section} is a table"
        for key, text in texts.items():
            if key not in english[section]:
                return f"{section}.{key} is no key"
            if key.endswith("button") and isinstance(text, str) and not text.strip():
                return f"{section}.{key} is a button, and says what it does"
            if wrong := _wrong(language, text, english[section][key]):
                return f"{section}.{key} {wrong}"
    return None


def _wrong(language: Language, text: Any, english: Text) -> str | None:
    if isinstance(english, list):
        good = isinstance(text, list) and len(text) == len(english) and all(isinstance(item, str) for item in text)
        return None if good else f"is a list of {len(english)} words"
    if isinstance(english, dict):
        needed = plurals.forms(language)
        if not isinstance(text, dict) or set(needed) - set(text) or set(text) - {*needed, "other"}:
            return f"has the forms {', '.join(needed)}"
        allowed = _places(english["other"]) or set()
        return next((wrong for form in text.values() if (wrong := _wrong_text(form, allowed))), None)
    return _wrong_text(text, _places(english) or set())


def _wrong_text(text: Any, allowed: set[str]) -> str | None:
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        return f"is a text of at most {MOST_TEXT} characters"
    places = _places(text)
    if places is None:
        return "has a brace too many or too few"
    if unknown := sorted(places - allowed):
        return f"cannot fill in {{{unknown[0]}}}"
    return None


def _places(text: str) -> set[str] | None:
    """Return what a text wants filled in; None where it is not written as it should be."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError:
        return None
    if any(spec or conversion for _, name, spec, conversion in parsed if name is not None):
        return None
    return {name for _, name, _, _ in parsed if name is not None}


def with_files(folder: Path) -> Mapping[Language, Table]:
    """Return our languages and those an owner keeps in ``folder``.

    Raises:
        ConfigError: a file cannot be used.

    """
    return MappingProxyType({**built_in(), **{file.stem: read(file) for file in sorted(folder.glob("*.toml"))}})


SPOKEN: Final[ContextVar[Languages | None]] = ContextVar("SPOKEN", default=None)
"""What the installation that answers this request speaks, its owner's own words included."""


@cache
def _ours() -> Languages:
    return Languages(built_in())


def spoken() -> Languages:
    """Return what is spoken here."""
    return SPOKEN.get() or _ours()


def words(language: Language) -> Words:
    """Return the sentences of a language."""
    return spoken().words(language)


def choose(*locales: str | None, accept: str = "", default: str | None = None) -> Language:
    """Return the first of these language tags that is given, else what ``Accept-Language`` likes best, else the default's."""
    return spoken().choose(*locales, accept=accept, default=default)


def _liked(accept: str) -> Sequence[str]:
    found: list[tuple[float, str]] = []
    for item in accept[:500].split(","):
        tag, _, weight = item.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        if tag.strip() and quality > 0:
            found.append((-quality, tag))
    return [tag for _, tag in sorted(found, key=lambda pair: pair[0])]
