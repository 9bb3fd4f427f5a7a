"""Everything held about one person, as a file: JSON for programs, a page to read that needs nothing beside itself."""

import re
from datetime import datetime
from textwrap import indent
from typing import Any, Final

import msgspec
from litestar import Response
from minijinja import Markup

from mailbase.audience.dossier import Dossier
from mailbase.pages.look import LOOK
from mailbase.pages.words import Language, Words, words
from mailbase.web.common import asset, page
from mailbase.web.left import local

SECTIONS: Final = (
    "consents", "events", "submissions", "confirmations", "messages", "deliveries", "opens_and_clicks", "bounces", "address_changes",
    "leaving_reasons",
)  # fmt: skip
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def as_json(found: Dossier) -> Response[bytes]:
    """Return the file for programs."""
    content = msgspec.json.format(msgspec.json.encode(found), indent=2)
    return Response(
        content, media_type="application/json", headers={**_attached("json"), "X-Content-Type-Options": "nosniff"}
    )


def as_page(found: Dossier, language: Language, at: datetime) -> Response[str]:
    """Return the file to read; it needs nothing beside itself."""
    said = words(language)
    held = msgspec.to_builtins(found)
    timezone = found.subscriber.timezone
    you = {
        **held["subscriber"],
        "frequency": held["frequency"],
        "paused_until": held["paused_until"],
        "suppressed": held["suppressed"],
    }
    sections = [("subscriber", [you])] + [(name, held[name]) for name in SECTIONS]
    return page(
        "own_data",
        language,
        title=said.preferences.held_title.format(email=found.subscriber.email),
        email=found.subscriber.email,
        as_of=said.preferences.held_at.format(date=said.date(local(at, timezone), time=True)),
        style=_style(),
        sections=[
            {
                "title": getattr(said.preferences, f"held_{name}"),
                "entries": [_lines(said, entry, timezone) for entry in entries],
            }
            for name, entries in sections
        ],
        headers={**_attached("html"), "Content-Security-Policy": "sandbox; default-src 'none'"},
    )


def _style() -> Markup:
    """Return the pages' rules and the owner's, to stand in the file itself: it is read where nothing can be loaded."""
    worn = LOOK.get()
    rules = asset("pages.css").decode() + (worn.css if worn else "")
    return Markup(rules.replace("</", "<\\/"))


def _lines(said: Words, entry: dict[str, Any], timezone: str | None) -> list[dict[str, str]]:
    # Of a letter with both bodies the text is the one to be read here; the JSON has the other, too.
    shown = {name: value for name, value in entry.items() if not (name == "html" and entry.get("text"))}
    return [
        {"name": _name(said, name), "value": text}
        for name, value in shown.items()
        if (text := _text(said, value, timezone))
    ]


def _text(said: Words, value: Any, timezone: str | None) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, str):
        if MOMENT.fullmatch(value):
            return said.date(local(datetime.fromisoformat(value), timezone), time=True)
        return value
    if isinstance(value, list):
        between = "\n\n" if any(isinstance(item, dict) for item in value) else ", "
        return between.join(filter(None, (_text(said, item, timezone) for item in value)))
    if isinstance(value, dict):
        lines = ((_name(said, key), _text(said, item, timezone)) for key, item in value.items())
        return "\n".join(
            f"{name}:\n{indent(text, '    ')}" if "\n" in text else f"{name}: {text}" for name, text in lines if text
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(said: Words, key: str) -> str:
    """Return what a column is called; an attribute has the name of its field."""
    return getattr(said.held, key, None) or key.replace("_", " ")


def _attached(kind: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="my-data.{kind}"', "Cache-Control": "no-store"}
