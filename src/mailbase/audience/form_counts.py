"""What a form brought: views, starts, submissions, confirmations, by UTC day and page.

A page is kept without its query. Visitors write page names, so a form keeps at most ``MOST_PAGES`` of them a day; what
comes after that counts under the empty page.
"""

from datetime import date
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from mailbase.db import Connection

What = Literal["view", "start", "submit", "confirmed"]

MOST_PAGES: Final = 200


class Day(Struct, kw_only=True):
    """One UTC day of a form."""

    date: date
    views: int
    starts: int
    submits: int
    confirmed: int


class Page(Struct, kw_only=True):
    """One page a form stands on."""

    page: str
    views: int
    starts: int
    submits: int
    confirmed: int


class FormStats(Struct, kw_only=True):
    """A form's numbers; ``submits`` are the accepted ones."""

    views: int
    starts: int
    submits: int
    confirmed: int
    by_day: list[Day]
    by_page: list[Page]


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
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}"[:300].replace("\0", "")


ADD = """
WITH place AS (
    SELECT CASE WHEN $2 = '' OR EXISTS (SELECT FROM form_counts WHERE form_id = $1 AND day = current_date AND page = $2)
        OR (SELECT count(DISTINCT page) FROM form_counts WHERE form_id = $1 AND day = current_date) < $4 THEN $2 ELSE '' END AS page
)
INSERT INTO form_counts (form_id, day, page, what, n)
SELECT $1, current_date, page, $3, 1 FROM place WHERE EXISTS (SELECT FROM forms WHERE id = $1)
ON CONFLICT (form_id, day, page, what) DO UPDATE SET n = form_counts.n + 1
"""


async def add(db: Connection, form_id: int, what: What, *, page: str | None = None) -> None:
    """Count one; call it last in a transaction, a busy form's row is hot."""
    await db.execute(ADD, form_id, short_page(page), what, MOST_PAGES)


BY_DAY = """
SELECT day AS date, COALESCE(sum(n) FILTER (WHERE what = 'view'), 0)::bigint AS views, COALESCE(sum(n) FILTER (WHERE what = 'start'), 0)::bigint AS starts,
    COALESCE(sum(n) FILTER (WHERE what = 'submit'), 0)::bigint AS submits, COALESCE(sum(n) FILTER (WHERE what = 'confirmed'), 0)::bigint AS confirmed
FROM form_counts WHERE form_id = $1 GROUP BY day ORDER BY day
"""

BY_PAGE = """
SELECT page, COALESCE(sum(n) FILTER (WHERE what = 'view'), 0)::bigint AS views, COALESCE(sum(n) FILTER (WHERE what = 'start'), 0)::bigint AS starts,
    COALESCE(sum(n) FILTER (WHERE what = 'submit'), 0)::bigint AS submits, COALESCE(sum(n) FILTER (WHERE what = 'confirmed'), 0)::bigint AS confirmed
FROM form_counts WHERE form_id = $1 GROUP BY page ORDER BY 2 DESC, 4 DESC, page LIMIT 200
"""


async def stats(db: Connection, form_id: int) -> FormStats:
    """Return a form's numbers; the 200 pages with the most views."""
    days = [Day(**row) for row in await db.fetch(BY_DAY, form_id)]
    pages = [Page(**row) for row in await db.fetch(BY_PAGE, form_id)]
    return FormStats(
        views=sum(day.views for day in days),
        starts=sum(day.starts for day in days),
        submits=sum(day.submits for day in days),
        confirmed=sum(day.confirmed for day in days),
        by_day=days,
        by_page=pages,
    )
