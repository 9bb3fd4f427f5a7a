"""The letter that brings a lead magnet: what it is, one button, how long the link works. Pure: no database, no network."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from mailbase.letters import templates
from mailbase.letters.content import Rendered
from mailbase.optin.words import language

HERE: Final = Path(__file__).parent


class Words(Struct, frozen=True):
    """What the letter says; ``{…}`` are filled in."""

    subject: str
    preview: str
    lead: str
    fetch: str
    open: str
    valid: str
    fallback: str
    plain: str
    why: str
    megabytes: str
    kilobytes: str
    point: str


ENGLISH: Final = Words(
    subject="{magnet}: here it is",
    preview="As promised. One press, and it is yours.",
    lead="Thank you for subscribing. As promised, here is what you asked for.",
    fetch="Download",
    open="Open",
    valid="The link works for {days} days. After that its page will send you a new one.",
    fallback="The button does not work? Open this address:",
    plain="Open this address:",
    why="You get this letter because you asked for it at “{title}”.",
    megabytes="{n} MB",
    kilobytes="{n} kB",
    point=".",
)
RUSSIAN: Final = Words(
    subject="{magnet}: вот, как обещали",
    preview="Как и обещали. Одно нажатие, и это ваше.",
    lead="Спасибо, что подписались. Как и обещали, вот то, о чём вы просили.",
    fetch="Скачать",
    open="Открыть",
    valid="Ссылка работает {days} дней. Потом на её странице можно попросить новую.",
    fallback="Кнопка не работает? Откройте этот адрес:",
    plain="Откройте этот адрес:",
    why="Вы получили это письмо, потому что попросили об этом в форме «{title}».",
    megabytes="{n} МБ",
    kilobytes="{n} КБ",
    point=",",
)


class Given(Struct, frozen=True, kw_only=True):
    """What one letter brings; ``size`` and ``ending`` of a file, None and "" of a page elsewhere."""

    title: str
    magnet: str
    url: str
    size: int | None
    ending: str
    days: int
    postal_address: str | None
    locale: str | None


@cache
def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def compose(given: Given) -> Rendered:
    """Return the letter."""
    said = RUSSIAN if language(given.locale) == "ru" else ENGLISH
    subject = templates.one_line(said.subject.format(magnet=given.magnet))
    variables: dict[str, Any] = {
        "words": msgspec.structs.asdict(said),
        "lang": language(given.locale),
        "subject": subject,
        "title": given.title,
        "magnet": given.magnet,
        "url": given.url,
        "button": said.open if given.size is None else said.fetch,
        "file": ", ".join(part for part in (given.ending, size_of(given.size, said)) if part),
        "valid": said.valid.format(days=given.days),
        "why": said.why.format(title=given.title),
        "postal_address": (given.postal_address or "").strip(),
        "postal_lines": (given.postal_address or "").strip().splitlines(),
    }
    text = templates.render(_source("magnet.txt"), html=False, variables=variables)
    return Rendered(
        subject=subject,
        text=text.strip() + "\n",
        html=templates.render(_source("magnet.html"), html=True, variables=variables),
    )


def size_of(size: int | None, said: Words) -> str:
    """Return how large a file is, for people: ``2.4 MB``."""
    if size is None:
        return ""
    if size < 1_000_000:
        return said.kilobytes.format(n=max(1, round(size / 1000)))
    digits = 0 if size >= 10_000_000 else 1
    return said.megabytes.format(n=f"{size / 1_000_000:.{digits}f}".replace(".", said.point))
