"""Tills: devices at the counter that may show a form in till mode, each by a link of its own.

::

    made by the owner ──▶ open ──▶ expired        its time is over
                            └────▶ gone           the owner took it back

Many guests come from one address there, so a till has a limit of its own instead of the network's. What it hands in carries a number
it made up: the same number again is a repetition after a broken line, not another guest.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Gone, NotFound

LONGEST_NAME: Final = 50
MOST_DAYS: Final = 1830


class Till(Struct, kw_only=True):
    """One till; statistics call what comes from it ``till:`` and its name."""

    id: int
    form_id: int
    name: str
    created_at: datetime
    expires_at: datetime

    @property
    def source(self) -> str:
        """What statistics call it."""
        return f"till:{self.name}"


CREATE = """
INSERT INTO tills (form_id, name, expires_at) VALUES ($1, $2, date_trunc('second', now()) + make_interval(days => $3))
RETURNING id, form_id, name, created_at, expires_at
"""


async def create(db: Connection, form_id: int, name: str, *, days: int) -> Till:
    """Make a till for so many days."""
    row = await db.fetchrow(CREATE, form_id, name, days)
    return Till(**dict(row or {}))


OPEN = """
SELECT id, form_id, name, created_at, expires_at, expires_at > now() AS open FROM tills WHERE id = $1
"""


async def opened(db: Connection, till_id: int, form_id: int) -> Till:
    """Return a till of this form.

    Raises:
        Gone: its time is over, or the owner took it back.

    """
    row = await db.fetchrow(OPEN, till_id)
    if row is None or not row["open"] or row["form_id"] != form_id:
        raise Gone("this till's link is no longer valid")
    return Till(**{name: row[name] for name in Till.__struct_fields__})


PAGE = """
SELECT id, form_id, name, created_at, expires_at FROM tills WHERE form_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""


async def page(db: Connection, form_id: int, *, before: int, limit: int) -> list[Till]:
    """Return a form's tills with an id below ``before``, newest first."""
    return [Till(**dict(row)) for row in await db.fetch(PAGE, form_id, before, limit)]


COUNT = """
SELECT count(*) FROM tills WHERE form_id = $1
"""


async def count(db: Connection, form_id: int) -> int:
    """Return how many tills a form has."""
    total: int = await db.fetchval(COUNT, form_id)
    return total


DELETE = """
DELETE FROM tills WHERE form_id = $1 AND id = $2 RETURNING id
"""


async def delete(db: Connection, form_id: int, till_id: int) -> None:
    """Take a till back; its link is no longer valid.

    Raises:
        NotFound: the form has no such till.

    """
    if await db.fetchval(DELETE, form_id, till_id) is None:
        raise NotFound("there is no such till")


ENTER = """
INSERT INTO till_entries (till_id, entry) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING till_id
"""


async def is_new(db: Connection, till_id: int, entry: UUID) -> bool:
    """Tell whether this till hands this number in for the first time; a twin under way is waited for."""
    return await db.fetchval(ENTER, till_id, entry) is not None


SWEEP = """
DELETE FROM till_entries WHERE at < now() - interval '7 days'
"""


async def forget_old(db: Connection) -> None:
    """Forget numbers that no till can still be repeating."""
    await db.execute(SWEEP)
