"""The letter that brings a lead magnet: what it is, one button, how long the link works. Pure: no database, no network."""

from msgspec import Struct

from mailbase.letters.content import Rendered
from mailbase.optin import frame
from mailbase.optin.frame import Framed
from mailbase.pages.words import Section, spoken


class Given(Struct, frozen=True, kw_only=True):
    """What one letter brings; ``size`` and ``ending`` of a file, None and "" of a page elsewhere."""

    title: str
    magnet: str
    url: str
    size: int | None
    ending: str
    days: int
    postal_address: str | None
    accent: str | None = None
    locale: str | None


def compose(given: Given) -> Rendered:
    """Return the letter."""
    language = spoken().choose(given.locale)
    said = spoken().words(language).magnet_letter
    framed = Framed(
        language=language,
        subject=said.subject.format(magnet=given.magnet),
        preview=said.preview,
        title=given.title,
        heading=given.magnet,
        lines=(said.lead,),
        url=given.url,
        button=said.open_button if given.size is None else said.fetch_button,
        open=said.plain,
        foot=said.why.format(title=given.title),
        postal_address=given.postal_address,
        accent=given.accent,
    )
    file = ", ".join(part for part in (given.ending, size_of(given.size, said)) if part)
    return frame.compose(framed, "magnet", {"file": file, "valid": said.plural("valid", given.days)})


def size_of(size: int | None, said: Section) -> str:
    """Return how large a file is, for people: ``2.4 MB``."""
    if size is None:
        return ""
    if size < 1_000_000:
        return said.kilobytes.format(n=max(1, round(size / 1000)))
    digits = 0 if size >= 10_000_000 else 1
    return said.megabytes.format(n=f"{size / 1_000_000:.{digits}f}".replace(".", said.point))
