"""A form's statistics as a small picture: bars by day, the three numbers that matter, light and dark. Pure text, no script."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final
from xml.sax.saxutils import escape

from msgspec import Struct

from mailbase.audience.form_counts import Day, FormStats

WIDTH: Final = 720
HEIGHT: Final = 320
LEFT: Final = 52
RIGHT: Final = 696
TOP: Final = 132
BOTTOM: Final = 276
MOST_BARS: Final = 62
COLUMNS: Final = (24, 220, 468)

STYLE: Final = (
    ":root{color-scheme:light dark;--paper:#fffefb;--ink:#1d2126;--soft:#5d646d;--line:#e4e2da;--views:#c9d6ea;--submits:#6d97d6;--confirmed:#1f4f8f}"
    "@media(prefers-color-scheme:dark){:root{--paper:#1c1f25;--ink:#eceef1;--soft:#a3abb6;--line:#343a44;--views:#36435a;--submits:#5b84c4;--confirmed:#a9c8f8}}"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:var(--soft);font-size:13px}"
    ".name{fill:var(--ink);font-size:17px;font-weight:600}.number{fill:var(--ink);font-size:26px;font-weight:650;letter-spacing:-.01em}"
    ".paper{fill:var(--paper)}.line{stroke:var(--line)}.v{fill:var(--views)}.s{fill:var(--submits)}.c{fill:var(--confirmed)}"
)


class Words(Struct, frozen=True):
    """What the picture says."""

    views: str
    submits: str
    confirmed: str
    of_views: str
    nothing: str
    by: str
    described: str


ENGLISH: Final = Words(
    views="Views",
    submits="Submitted",
    confirmed="Confirmed",
    of_views="{share} of views",
    nothing="Nothing was counted in these days yet.",
    by="a bar is {n} days",
    described="From {since} to {until}: {views} views, {submits} submitted, {confirmed} confirmed.",
)
RUSSIAN: Final = Words(
    views="Показы",
    submits="Заполнили",
    confirmed="Подтвердили",
    of_views="{share} показов",
    nothing="За эти дни пока ничего не посчитано.",
    by="столбик — {n} дн.",
    described="С {since} по {until}: показов {views}, заполнили {submits}, подтвердили {confirmed}.",
)


def draw(name: str, stats: FormStats, *, since: date, until: date, locale: str | None = None) -> str:
    """Return the picture of a form's days from ``since`` to ``until``, both included."""
    said = RUSSIAN if (locale or "").lower().startswith("ru") else ENGLISH
    each, bars = _bars(stats.by_day, since, until)
    described = said.described.format(
        since=since, until=until, views=stats.views, submits=stats.submits, confirmed=stats.confirmed
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_text(name)}</title><desc id="desc">{_text(described)}</desc><style>{STYLE}</style>',
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="14"/>',
        f'<text class="name" x="24" y="36">{_text(_short(name))}</text>',
        *_numbers(stats, said),
        *_plot(bars, said),
        *_axis(since, until, each, said),
        "</svg>",
    ]
    return "\n".join(parts)


def _text(value: str) -> str:
    return escape("".join(letter for letter in value if letter.isprintable()))


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:63]}…"


def _numbers(stats: FormStats, said: Words) -> list[str]:
    shares = ("", f"{stats.rates.submit:.1%}", f"{stats.rates.conversion:.1%}")
    found = zip(
        (said.views, said.submits, said.confirmed),
        (stats.views, stats.submits, stats.confirmed),
        "vsc",
        shares,
        strict=True,
    )
    parts: list[str] = []
    for n, (label, number, kind, share) in enumerate(found):
        x = COLUMNS[n]
        beside = f" · {said.of_views.format(share=share)}" if share and stats.views else ""
        parts.append(f'<text class="number" x="{x}" y="78">{number:,}</text>'.replace(",", "\u202f"))
        parts.append(f'<rect class="{kind}" x="{x}" y="91" width="10" height="10" rx="3"/>')
        parts.append(f'<text x="{x + 16}" y="101">{_text(label + beside)}</text>')
    return parts


class _Bar(Struct):
    views: int = 0
    submits: int = 0
    confirmed: int = 0


def _bars(days: Sequence[Day], since: date, until: date) -> tuple[int, list[_Bar]]:
    """Return how many days a bar stands for, and the bars; the last one ends with ``until``."""
    count = (until - since).days + 1
    each = -(-count // MOST_BARS)
    bars = [_Bar() for _ in range(-(-count // each))]
    for day in days:
        place = len(bars) - 1 - (until - day.date).days // each
        if 0 <= place < len(bars):
            bars[place].views += day.views
            bars[place].submits += day.submits
            bars[place].confirmed += day.confirmed
    return each, bars


def _plot(bars: Sequence[_Bar], said: Words) -> list[str]:
    top = max((max(bar.views, bar.submits, bar.confirmed) for bar in bars), default=0)
    if not top:
        middle = (TOP + BOTTOM) // 2
        line = f'<line class="line" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>'
        return [line, f'<text x="{WIDTH // 2}" y="{middle}" text-anchor="middle">{_text(said.nothing)}</text>']
    most = _round_up(top)
    parts: list[str] = []
    for share in (0, 0.5, 1):
        y = BOTTOM - share * (BOTTOM - TOP)
        parts.append(f'<line class="line" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_brief(most * share)}</text>')
    step = (RIGHT - LEFT) / len(bars)
    wide = max(2.0, min(26.0, step * 0.72))
    for n, bar in enumerate(bars):
        x = LEFT + step * (n + 0.5) - wide / 2
        for kind, number, narrower in (("v", bar.views, 0.0), ("s", bar.submits, 0.0), ("c", bar.confirmed, 0.0)):
            if number:
                height = max(1.5, number / most * (BOTTOM - TOP))
                radius = min(3.0, wide / 3, height)
                parts.append(f'<path class="{kind}" d="{_column(x + narrower, height, wide - 2 * narrower, radius)}"/>')
    return parts


def _column(x: float, height: float, wide: float, radius: float) -> str:
    """Return a bar that stands on the line, with its upper corners rounded."""
    y = BOTTOM - height
    return (
        f"M{x:.1f} {BOTTOM}V{y + radius:.1f}q0-{radius:.1f} {radius:.1f}-{radius:.1f}"
        f"h{wide - 2 * radius:.1f}q{radius:.1f} 0 {radius:.1f} {radius:.1f}V{BOTTOM}z"
    )


def _axis(since: date, until: date, each: int, said: Words) -> list[str]:
    y = BOTTOM + 24
    parts = [
        f'<text x="{LEFT}" y="{y}">{since.isoformat()}</text>',
        f'<text x="{RIGHT}" y="{y}" text-anchor="end">{until.isoformat()}</text>',
    ]
    middle = since + timedelta(days=(until - since).days // 2)
    centre = said.by.format(n=each) if each > 1 else middle.isoformat() if since < middle < until else ""
    if centre:
        parts.append(f'<text x="{(LEFT + RIGHT) // 2}" y="{y}" text-anchor="middle">{centre}</text>')
    return parts


def _round_up(top: int) -> int:
    """Return the end of the scale: a round number whose half is one, too."""
    scale = 1
    while True:
        for factor in (2, 4, 6, 8, 10) if scale == 1 else (2, 3, 4, 5, 6, 8, 10):
            if top <= factor * scale:
                return factor * scale
        scale *= 10


def _brief(number: float) -> str:
    for size, sign in ((1_000_000, "M"), (1000, "k")):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"
