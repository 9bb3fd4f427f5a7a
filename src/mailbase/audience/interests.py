"""Interests: the topics a subscriber chooses. The API speaks their slugs, rows hold their ids, so a rename costs nothing."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from mailbase.db import Connection
from mailbase.errors import Conflict, FieldError, Invalid, NotFound


class Interest(msgspec.Struct):
    """A topic; one that is not public is the owner's to give, and no page shows it."""

    id: int
    slug: str
    name: str
    description: str | None
    public: bool
    created_at: datetime


CREATE = """
INSERT INTO interests (slug, name, description, public) VALUES ($1, $2, $3, $4) ON CONFLICT (slug) DO NOTHING
RETURNING id, slug, name, description, public, created_at
"""


async def create(
    db: Connection, *, slug: str, name: str, description: str | None = None, public: bool = True
) -> Interest:
    """Add a topic.

    Raises:
        Conflict: ``interest_exists``.

    """
    row = await db.fetchrow(CREATE, slug, name, description, public)
    if row is None:
        raise _taken(slug)
    return Interest(**row)


def _taken(slug: str) -> Conflict:
    return Conflict(f"There is an interest {slug!r} already.", code="interest_exists")


GET = """
SELECT id, slug, name, description, public, created_at FROM interests WHERE id = $1
"""


async def get(db: Connection, interest_id: int) -> Interest:
    """Return one topic.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, interest_id)
    if row is None:
        raise NotFound("There is no such interest.")
    return Interest(**row)


PAGE = """
SELECT id, slug, name, description, public, created_at FROM interests
 WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, *, limit: int, before: int | None = None) -> list[Interest]:
    """Return topics, newest first."""
    return [Interest(**row) for row in await db.fetch(PAGE, before, limit)]


COUNT = """
SELECT count(*) FROM interests
"""


async def count(db: Connection) -> int:
    """Return how many topics there are."""
    total: int = await db.fetchval(COUNT)
    return total


UPDATE = """
UPDATE interests
   SET slug = coalesce($2, slug), name = coalesce($3, name), description = CASE WHEN $6 THEN $4 ELSE description END, public = coalesce($5, public)
 WHERE id = $1
RETURNING id, slug, name, description, public, created_at
"""


async def update(
    db: Connection,
    interest_id: int,
    *,
    slug: str | None,
    name: str | None,
    description: str | None,
    public: bool | None,
    set_description: bool,
) -> Interest:
    """Change what is given.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``interest_exists``, the slug is another's.

    """
    try:
        async with db.transaction():
            row = await db.fetchrow(UPDATE, interest_id, slug, name, description, public, set_description)
    except asyncpg.UniqueViolationError:
        raise _taken(slug or "") from None
    if row is None:
        raise NotFound("There is no such interest.")
    return Interest(**row)


FORGET = """
UPDATE subscribers SET interests = array_remove(interests, $1) WHERE interests @> ARRAY[$1]::bigint[]
"""

DELETE = """
DELETE FROM interests WHERE id = $1
"""


# Whom such a campaign leaves out is looked up when it is due: without the topic they would be written to.
LEFT_OUT = """
SELECT name FROM campaigns
WHERE status IN ('scheduled', 'sending', 'paused') AND finished_at IS NULL AND NOT fanned_out
    AND audience -> 'exclude' -> 'interests' @> to_jsonb($1::bigint)
ORDER BY id LIMIT 1
"""


async def delete(db: Connection, interest_id: int) -> None:
    """Delete a topic; everybody who chose it no longer has it.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``interest_in_use``: a launched campaign leaves out those who chose it, and has not looked yet who they are.

    """
    if (name := await db.fetchval(LEFT_OUT, interest_id)) is not None:
        raise Conflict(f"The campaign {name!r} leaves out whoever chose this; cancel it first.", code="interest_in_use")
    if await db.execute(DELETE, interest_id) == "DELETE 0":
        raise NotFound("There is no such interest.")
    await db.execute(FORGET, interest_id)


IDS = """
SELECT slug, id FROM interests WHERE slug = ANY ($1::text[])
"""


async def ids(db: Connection, slugs: Sequence[str]) -> dict[str, int]:
    """Return the ids of those slugs that exist."""
    return {row["slug"]: row["id"] for row in await db.fetch(IDS, list(slugs))} if slugs else {}


async def resolve(db: Connection, slugs: Sequence[str], *, field: str = "interests") -> list[int]:
    """Return the ids of these slugs.

    Raises:
        Invalid: ``unknown_interest`` for each slug that is none.

    """
    known = await ids(db, slugs)
    errors = [
        FieldError(f"{field}.{place}", "unknown_interest", f"There is no interest {slug!r}.")
        for place, slug in enumerate(slugs)
        if slug not in known
    ]
    if errors:
        raise Invalid(errors=errors, code="unknown_interest")
    return [known[slug] for slug in slugs]
