"""What the pages say: complete in both languages, and open to others by a file."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.errors import ConfigError
from mailbase.optin import magnet_letter
from mailbase.optin.magnet_letter import Given
from mailbase.optin.notice_words import notices
from mailbase.pages import plurals, words
from mailbase.pages.words import HERE, Languages, mistake, read, with_files

TABLES = {name: tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8")) for name in ("en", "ru")}
TEMPLATES = HERE.parent / "templates"


def test_both_languages_say_the_same():
    """English and Russian have the same keys, each plural all its forms, and no sentence fills in what the other does not know."""
    for section, texts in TABLES["en"].items():
        assert texts.keys() == TABLES["ru"][section].keys()
        for key, text in texts.items():
            assert isinstance(TABLES["ru"][section][key], type(text)), f"{section}.{key}"
    assert TABLES["en"].keys() == TABLES["ru"].keys()
    assert mistake("ru", TABLES["ru"]) is None
    assert mistake("en", TABLES["en"]) is None


def test_templates_ask_for_what_there_is():
    """Every word a template names stands in the files."""
    for file in TEMPLATES.glob("*.html"):
        for section, key in re.findall(r"\bwords\.(\w+)\.(\w+)", file.read_text(encoding="utf-8")):
            assert key in TABLES["en"][section], f"{file.name}: words.{section}.{key}"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", {1: "one", 0: "other", 2: "other", 21: "other"}),
        ("ru", {1: "one", 21: "one", 2: "few", 24: "few", 5: "many", 11: "many", 12: "many", 111: "many", 0: "many"}),
        ("pl", {1: "one", 2: "few", 22: "few", 12: "many", 21: "many"}),
        ("fr", {0: "one", 1: "one", 2: "other"}),
        ("cs", {1: "one", 3: "few", 5: "other"}),
        ("ar", {0: "zero", 1: "one", 2: "two", 3: "few", 11: "many", 100: "other", 103: "few"}),
        ("ja", {1: "other", 2: "other"}),
        ("lv", {0: "zero", 1: "one", 11: "zero", 21: "one", 2: "other"}),
    ],
)
def test_plural_forms(language, said):
    """A number takes the form CLDR gives it."""
    assert {n: plurals.form(language, n) for n in said} == said


@given(st.sampled_from(["en", "ru", "pl", "fr", "cs", "ar", "ja", "lt", "lv", "ro", "sl", "he", "sr"]), st.integers(0))
def test_plural_forms_are_known(language, n):
    """No number asks for a form that a file was not asked for."""
    assert plurals.form(language, n) in plurals.forms(language)


def test_plural_is_filled_in():
    """A plural says its number."""
    assert words.words("ru").errors.plural("slow_text", 21).endswith("через 21 секунду.")
    assert words.words("en").errors.plural("slow_text", 2).endswith("in 2 seconds.")


def test_dates():
    """A date reads as people write it, and UTC is said."""
    at = datetime(2026, 3, 8, 9, 5, tzinfo=UTC)
    assert words.words("en").date(at) == "8 March 2026"
    assert words.words("ru").date(at) == "8 марта 2026 г."
    assert words.words("en").date(at, time=True) == "8 March 2026, 09:05 UTC"


def test_language_of_an_owner(tmp_path: Path):
    """A file adds a language: what it leaves out is English, and it may replace sentences of ours."""
    (tmp_path / "de.toml").write_text('[confirm]\ntitle = "Noch ein Klick"\n', encoding="utf-8")
    (tmp_path / "ru.toml").write_text('[confirm]\ntitle = "Почти всё"\n', encoding="utf-8")
    spoken = Languages(with_files(tmp_path))
    assert spoken.words("de").confirm.title == "Noch ein Klick"
    assert spoken.words("de").confirm.button == TABLES["en"]["confirm"]["button"]
    assert spoken.words("ru").confirm.title == "Почти всё"
    assert spoken.words("ru").confirm.button == TABLES["ru"]["confirm"]["button"]
    assert spoken.choose("de-AT") == "de"
    assert spoken.choose(accept="fr, de;q=0.5, en;q=0.1") == "de"
    assert words.choose("de-AT") == "en"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("de", '[confirm]\ntitel = "x"', "confirm.titel is no key"),
        ("de", '[nothing]\nx = "x"', "[nothing] is no section"),
        ("de", 'confirm = "x"', "confirm is a table"),
        ("de", "[confirm]\ntitle = 3", "confirm.title is a text"),
        ("de", '[unsubscribe]\ntext = "{name}"', "unsubscribe.text cannot fill in {name}"),
        ("de", '[unsubscribe]\ntext = "{email.__class__}"', "unsubscribe.text cannot fill in"),
        ("de", '[unsubscribe]\ntext = "{email!r}"', "unsubscribe.text has a brace"),
        ("de", '[unsubscribe]\ntext = "{email"', "unsubscribe.text has a brace"),
        ("de", '[errors]\nslow_text = { one = "x" }', "errors.slow_text has the forms one, other"),
        ("pl", '[errors]\nslow_text = { one = "x", other = "y" }', "errors.slow_text has the forms one, few, many"),
        ("de", '[dates]\nmonths = ["Januar"]', "dates.months is a list of 12 words"),
        ("de", "[confirm", "de.toml: "),
        ("Deutsch", '[confirm]\ntitle = "x"', "called by its tag"),
    ],
)
def test_file_that_cannot_be_used(tmp_path: Path, name: str, text: str, said: str):
    """A mistake in an owner's file is told by its name and key."""
    (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(tmp_path / f"{name}.toml")


def test_letters_speak_an_owners_language(tmp_path):
    """A file of another language covers our letters, too, in their own direction; what it leaves out is English, inside one frame."""
    file = tmp_path / "he.toml"
    file.write_text(
        '[language]\ndirection = "rtl"\n[magnet_letter]\nlead = "תודה."\n[notices]\nasked_title = "כתובת"\n',
        encoding="utf-8",
    )
    words.SPOKEN.set(Languages(with_files(tmp_path)))
    given = Given(
        title="A", magnet="B", url="https://x.example/d", size=1, ending="PDF", days=7, postal_address="C", locale="he"
    )
    letter = magnet_letter.compose(given)
    assert ("תודה." in letter.html, "The link works for 7 days." in letter.text) == (True, True)
    assert '<html lang="he" dir="rtl">' in letter.html
    notice = notices("he-IL").address_asked.about(old="o", new="n")
    assert (notice.title, notice.lines[0].startswith("Somebody")) == ("כתובת", True)
    words.SPOKEN.set(None)
