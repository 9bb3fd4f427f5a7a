"""The export of everybody as CSV: read in batches by id, so that its memory and its transactions stay small.

People who come or go meanwhile may or may not be in it; nobody is in it twice. Attributes get a column each, if the export was
asked for at a moment when somebody had them.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from mailbase.audience.subscribers import Filter
from mailbase.db import Connection, Pool

BATCH: Final = 2000
FIXED: Final = (
    "id", "email", "status", "locale", "timezone", "tags", "interests", "source", "created_at", "confirmed_at", "unsubscribed_at", "engaged_at",
)  # fmt: skip
MOST_COLUMNS: Final = 500

NAMES = """
SELECT name FROM (SELECT DISTINCT jsonb_object_keys(attributes) AS name FROM subscribers) AS names ORDER BY name LIMIT $1
"""

BATCH_OF = """
SELECT id, email, status, coalesce(locale, '') AS locale, coalesce(timezone, '') AS timezone, array_to_string(tags, ',') AS tags,
       array_to_string(ARRAY(SELECT slug FROM interests WHERE interests.id = ANY (subscribers.interests) ORDER BY slug), ',') AS interests,
       coalesce(source, '') AS source, created_at, confirmed_at, unsubscribed_at,
       (SELECT at FROM engaged WHERE subscriber_id = subscribers.id) AS engaged_at, attributes
  FROM subscribers
 WHERE id > $5
   AND ($1::text IS NULL OR status = $1)
   AND ($2::text[] IS NULL OR tags @> $2)
   AND ($3::bigint[] IS NULL OR interests @> $3)
   AND ($4::text IS NULL OR email_key LIKE $4)
 ORDER BY id LIMIT $6
"""


async def columns(db: Connection) -> list[str]:
    """Return the names of all attributes there are."""
    return [row["name"] for row in await db.fetch(NAMES, MOST_COLUMNS, timeout=600)]


def header(attributes: Sequence[str]) -> list[str]:
    """Return the first line; an attribute named like a fixed column is marked as one."""
    return [*FIXED, *(f"attributes.{name}" if name in FIXED else name for name in attributes)]


async def lines(pool: Pool, which: Filter, attributes: Sequence[str]) -> AsyncGenerator[list[list[str]]]:
    """Give out batches of lines, oldest first; a connection is held for one batch at a time."""
    after = 0
    while True:
        async with pool.acquire() as db:
            rows = await db.fetch(BATCH_OF, *which.arguments(), after, BATCH, timeout=600)
        if not rows:
            return
        after = rows[-1]["id"]
        yield [_line(row, attributes) for row in rows]


def _line(row: Any, attributes: Sequence[str]) -> list[str]:
    known = row["attributes"]
    fixed = [str(row["id"]), *(row[name] for name in FIXED[1:8]), *(_time(row[name]) for name in FIXED[8:])]
    return fixed + [_text(known.get(name)) for name in attributes]


def _time(at: Any) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return ",".join(value)
        case _:
            return str(value)
