"""The frame our own letters stand in, as HTML and as text; ``letter`` and ``magnet`` put something more around their button.

head ─▶ title, heading, lines ─▶ [before] ─▶ button ─▶ [after] ─▶ the button's address ─▶ foot, postal address
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from minijinja import Environment
from msgspec import Struct

from mailbase.letters import templates
from mailbase.letters.content import Rendered
from mailbase.pages import colors
from mailbase.pages.words import spoken

HERE: Final = Path(__file__).parent
SOURCES: Final = ("frame", "letter", "magnet")


class Framed(Struct, frozen=True, kw_only=True):
    """What every letter of ours has. ``title`` is whose it is, ``language`` the one it speaks."""

    language: str
    subject: str
    title: str
    heading: str
    lines: Sequence[str]
    url: str = ""
    button: str = ""
    open: str = ""
    """Before the address in the text."""
    foot: str = ""
    preview: str = ""
    postal_address: str | None = None
    accent: str | None = None
    """The owner's colour, as `PATCH /v1/settings` takes it."""


@cache
def _engine(ending: Literal["html", "txt"]) -> Environment:
    made = templates.environment(html=ending == "html")
    made.trim_blocks = made.lstrip_blocks = True
    for name in SOURCES:
        made.add_template(f"{name}.{ending}", (HERE / f"{name}.{ending}").read_text(encoding="utf-8"))
    return made


def compose(framed: Framed, name: str = "frame", more: Mapping[str, Any] | None = None) -> Rendered:
    """Return the letter's bodies; ``more`` is what the template ``name`` shows beside the frame."""
    said = spoken().words(framed.language)
    subject = templates.one_line(framed.subject)
    variables: dict[str, Any] = {
        **(more or {}),
        "lang": said.language,
        "direction": said.direction,
        "fallback": said.letter.fallback,
        "subject": subject,
        "title": framed.title,
        "heading": framed.heading,
        "lines": list(framed.lines),
        "url": framed.url,
        "button": framed.button,
        "open": framed.open,
        "foot": framed.foot,
        "preview": framed.preview,
        "postal_lines": (framed.postal_address or "").strip().splitlines(),
        **_colors(framed.accent),
    }
    return Rendered(
        subject=subject,
        text=_tidy(_engine("txt").render_template(f"{name}.txt", **variables)),
        html=_engine("html").render_template(f"{name}.html", **variables),
    )


@lru_cache(maxsize=16)
def _colors(accent: str | None) -> dict[str, str]:
    light = colors.shades(accent or colors.OURS, colors.CARD)
    link_dark = colors.shades(accent, colors.CARD_DARK).link if accent else "#8ab4f4"
    return {"accent": light.accent, "on_accent": light.on_accent, "link": light.link, "link_dark": link_dark}


def _tidy(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line if line.strip() else "")
    return "\n".join(lines).strip() + "\n"
