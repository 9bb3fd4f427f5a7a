"""How an installation's pages look at present: its owner's settings, logo, templates and words, read together.

It is kept for a second in each process, so a page costs no query more, and what an owner changes shows at once where it was changed
and a second later everywhere else.
"""

import hashlib
from contextvars import ContextVar
from functools import cached_property
from typing import Final

from msgspec import Struct

from mailbase.audience import account
from mailbase.audience.account import Account
from mailbase.db import Connection
from mailbase.pages import colors, logos, overrides
from mailbase.pages.logos import Logo
from mailbase.pages.words import SPOKEN, Languages, Table, sections, with_texts


class Look(Struct, frozen=True, dict=True):
    """What pages are dressed in."""

    account: Account
    logo: Logo | None
    overrides: dict[str, str]
    """The owner's templates by the page's name."""
    languages: Languages

    @cached_property
    def css(self) -> str:
        """Return the rules that come after ours; empty when the owner changed nothing."""
        return style(self.account.accent, self.account.background) + (self.account.css or "")

    @cached_property
    def stylesheet(self) -> str | None:
        """Return the address of these rules, which changes with them."""
        return f"/assets/look.css?v={hashlib.sha256(self.css.encode()).hexdigest()[:12]}" if self.css else None


LOOK: Final[ContextVar[Look | None]] = ContextVar("LOOK", default=None)
"""What the answer under way is dressed in."""


def wear(look: Look) -> None:
    """Dress the answer under way."""
    LOOK.set(look)
    SPOKEN.set(look.languages)


async def read(db: Connection, tables: dict[str, Table]) -> Look:
    """Return the look as it is now. ``tables`` are the languages the installation has."""
    settings = await account.get(db)
    spoken = {
        language: with_texts(table, sections(settings.texts[language])) if language in settings.texts else table
        for language, table in tables.items()
    }
    return Look(settings, await logos.get(db), await overrides.sources(db), Languages(spoken))


def style(accent: str | None, background: str | None) -> str:
    """Return an owner's colours as custom properties, for light and dark."""
    light, dark = "", ""
    if accent:
        for_light, for_dark = colors.shades(accent, colors.CARD), colors.shades(accent, colors.CARD_DARK)
        light += _properties(for_light)
        dark += _properties(for_dark)
    if background:
        light += f"--paper:{background};--on-paper:{colors.ink_on(background)};"
    # On screen only: on paper everything is black on white.
    rules = f"@media screen{{:root{{{light}}}}}\n" if light else ""
    # Paper is the owner's by day; by night ours, with the text that goes with it.
    night = "--paper:#14161a;--on-paper:#a3abb6;" if background else ""
    return rules + (
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}{night}}}}}\n" if dark or night else ""
    )


def _properties(shades: colors.Shades) -> str:
    return (
        f"--accent:{shades.accent};--accent-strong:{shades.strong};--on-accent:{shades.on_accent};--link:{shades.link};"
    )


def icon(accent: str | None) -> str:
    """Return a letter on an owner's colour, as SVG."""
    ground = accent or colors.OURS
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="{ground}"/>'
        '<path d="M7 10h18v12.5H7zl9 7 9-7" fill="none" stroke-width="2.25" stroke-linejoin="round"'
        f' stroke="{colors.ink_on(ground)}"/></svg>'
    )
