"""What a form brought: views, starts, submissions, confirmations, by UTC day and by page, source, mode and trigger.

Each event moves one counter in each dimension. Visitors write these names, so a form keeps at most so many of them a day in a
dimension; what comes after that counts as ``other``. Every connection has counters of its own (``slot``): no two wait for one row.
"""

import re
from datetime import date
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from mailbase.db import Connection

What = Literal["view", "start", "submit", "confirmed"]
Dimension = Literal["page", "source", "mode", "trigger"]

MOST: Final[dict[Dimension, int]] = {"mode": 20, "page": 200, "source": 100, "trigger": 20}
"""How many names of a dimension are kept a day; in the order they are counted in, so that nobody waits crosswise."""
MOST_LISTED: Final = 200
OTHER: Final = "*"
"""What is stored for names beyond those; no visitor can write it."""

_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_UNSAID = re.compile(r"[\x00-\x1f\x7f]")


class Whence(Struct, frozen=True, kw_only=True):
    """From where somebody came, in their page's own words."""

    page: str | None = None
    source: str | None = None
    mode: str | None = None
    trigger: str | None = None


class Counts(Struct, kw_only=True):
    """What was counted; ``submits`` are the accepted ones."""

    views: int
    starts: int
    submits: int
    confirmed: int


class Day(Counts, kw_only=True):
    """One UTC day of a form."""

    date: date


class Page(Counts, kw_only=True):
    """One page a form stands on."""

    page: str


class Source(Counts, kw_only=True):
    """One source: what the page or the link said, else ``utm_source``."""

    source: str


class Mode(Counts, kw_only=True):
    """One way of showing it: inline, popup, slide_in, bar, hosted, till."""

    mode: str


class ByTrigger(Counts, kw_only=True):
    """What opened it: delay, scroll, exit, click."""

    trigger: str


class Rates(Struct, kw_only=True):
    """Shares from 0 to 1; one without a denominator is 0."""

    start: float
    """Starts among views."""
    submit: float
    """Accepted submissions among views."""
    confirm: float
    """Confirmations among accepted submissions."""
    conversion: float
    """Confirmations among views."""


class FormStats(Counts, kw_only=True):
    """A form's numbers; names a day had too many of are summed up as ``other``, unsaid ones as the empty name."""

    rates: Rates
    by_day: list[Day]
    by_page: list[Page]
    by_source: list[Source]
    by_mode: list[Mode]
    by_trigger: list[ByTrigger]


def short_page(page: str | None) -> str:
    """Return scheme, host and path of a page, at most 300 characters; "" for anything else."""
    if not page or len(page) > 4000:
        return ""
    try:
        parts = urlsplit(page)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc:
        return ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:300].replace("\0", "")


def short_source(source: str | None) -> str:
    """Return a source as it is counted: one line of at most 100 characters, in lower case."""
    name = _UNSAID.sub("", source or "")[:400].strip().lower()[:100]
    return "" if name == OTHER else name


def short_word(word: str | None) -> str:
    """Return the name of a mode or trigger; what follows a colon (``delay:10``) is left out."""
    name = (word or "")[:64].partition(":")[0].strip().lower()
    return name if _WORD.fullmatch(name) else ""


# Most names are there already. Written out, because a plan that joins a list costs five times as much.
MOVE = """
UPDATE form_counts SET n = n + 1 WHERE form_id = $1 AND day = current_date AND what = $2 AND slot = pg_backend_pid() % 64
AND (dimension = 'mode' AND value = $3 OR dimension = 'page' AND value = $4 OR dimension = 'source' AND value = $5 OR dimension = 'trigger' AND value = $6)
RETURNING dimension
"""

ADD = """
WITH given AS (
    SELECT dimension, value, most FROM unnest($3::text[], $4::text[], $5::integer[]) AS given (dimension, value, most)
), kept AS (
    SELECT dimension, CASE
        WHEN value = '' OR EXISTS (SELECT FROM form_counts AS count
            WHERE form_id = $1 AND day = current_date AND count.dimension = given.dimension AND count.value = given.value) THEN value
        WHEN EXISTS (SELECT FROM form_counts AS count
            WHERE form_id = $1 AND day = current_date AND count.dimension = given.dimension AND count.value = $6) THEN $6
        WHEN (SELECT count(DISTINCT count.value) FROM form_counts AS count
            WHERE form_id = $1 AND day = current_date AND count.dimension = given.dimension AND count.value <> '') < most THEN value
        ELSE $6 END AS value
    FROM given
)
INSERT INTO form_counts (form_id, day, dimension, value, what, slot, n)
SELECT $1, current_date, dimension, value, $2, pg_backend_pid() % 64, 1 FROM kept
WHERE EXISTS (SELECT FROM forms WHERE id = $1) ORDER BY dimension
ON CONFLICT (form_id, day, dimension, value, what, slot) DO UPDATE SET n = form_counts.n + 1
"""


async def add(db: Connection, form_id: int, what: What, whence: Whence) -> None:
    """Count one."""
    values: dict[Dimension, str] = {
        "mode": short_word(whence.mode),
        "page": short_page(whence.page),
        "source": short_source(whence.source),
        "trigger": short_word(whence.trigger),
    }
    moved = {row["dimension"] for row in await db.fetch(MOVE, form_id, what, *values.values())}
    if new := [name for name in values if name not in moved]:
        await db.execute(ADD, form_id, what, new, [values[name] for name in new], [MOST[name] for name in new], OTHER)


FOLD = """
WITH gone AS (
    DELETE FROM form_counts WHERE slot <> 0 AND day IN (
        SELECT day FROM form_counts WHERE slot <> 0 AND day < current_date - 1 ORDER BY day LIMIT 1)
    RETURNING form_id, day, dimension, value, what, n
)
INSERT INTO form_counts (form_id, day, dimension, value, what, slot, n)
SELECT form_id, day, dimension, value, what, 0, sum(n) FROM gone GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (form_id, day, dimension, value, what, slot) DO UPDATE SET n = form_counts.n + excluded.n
"""


async def fold(db: Connection) -> None:
    """Make one row of what each connection counted, for the oldest day that is over and not folded yet."""
    await db.execute(FOLD)


BY_DAY = """
SELECT day AS date, COALESCE(sum(n) FILTER (WHERE what = 'view'), 0)::bigint AS views, COALESCE(sum(n) FILTER (WHERE what = 'start'), 0)::bigint AS starts,
    COALESCE(sum(n) FILTER (WHERE what = 'submit'), 0)::bigint AS submits, COALESCE(sum(n) FILTER (WHERE what = 'confirmed'), 0)::bigint AS confirmed
FROM form_counts
WHERE form_id = $1 AND dimension = 'page' AND day BETWEEN COALESCE($2::date, '-infinity') AND COALESCE($3::date, 'infinity')
GROUP BY day ORDER BY day
"""

BY_NAME = """
SELECT CASE value WHEN $6 THEN 'other' ELSE value END AS name,
    COALESCE(sum(n) FILTER (WHERE what = 'view'), 0)::bigint AS views, COALESCE(sum(n) FILTER (WHERE what = 'start'), 0)::bigint AS starts,
    COALESCE(sum(n) FILTER (WHERE what = 'submit'), 0)::bigint AS submits, COALESCE(sum(n) FILTER (WHERE what = 'confirmed'), 0)::bigint AS confirmed
FROM form_counts
WHERE form_id = $1 AND dimension = $4 AND day BETWEEN COALESCE($2::date, '-infinity') AND COALESCE($3::date, 'infinity')
GROUP BY 1 ORDER BY 2 DESC, 4 DESC, 1 LIMIT $5
"""


async def stats(db: Connection, form_id: int, *, since: date | None = None, until: date | None = None) -> FormStats:
    """Return a form's numbers between two UTC days, both included; of each dimension the 200 names with the most views."""
    days = [Day(**row) for row in await db.fetch(BY_DAY, form_id, since, until)]
    total = Counts(
        views=sum(day.views for day in days),
        starts=sum(day.starts for day in days),
        submits=sum(day.submits for day in days),
        confirmed=sum(day.confirmed for day in days),
    )
    named = {
        name: [dict(row) for row in await db.fetch(BY_NAME, form_id, since, until, name, MOST_LISTED, OTHER)]
        for name in MOST
    }
    return FormStats(
        views=total.views,
        starts=total.starts,
        submits=total.submits,
        confirmed=total.confirmed,
        rates=rates(total),
        by_day=days,
        by_page=[Page(page=row.pop("name"), **row) for row in named["page"]],
        by_source=[Source(source=row.pop("name"), **row) for row in named["source"]],
        by_mode=[Mode(mode=row.pop("name"), **row) for row in named["mode"]],
        by_trigger=[ByTrigger(trigger=row.pop("name"), **row) for row in named["trigger"]],
    )


def rates(counts: Counts) -> Rates:
    """Return the shares of these numbers."""
    return Rates(
        start=_share(counts.starts, counts.views),
        submit=_share(counts.submits, counts.views),
        confirm=_share(counts.confirmed, counts.submits),
        conversion=_share(counts.confirmed, counts.views),
    )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
