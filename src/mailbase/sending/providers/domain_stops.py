"""A stop of a domain: a provider refused its authentication, so its campaigns wait until the owner has put it right.

    going ── 5.7.26, 5.7.515 … (a reply rule), or a relay that refuses its sender ──▶ stopped, with the reason in words ── resumed by hand ──▶ going

Not a matter of reputation but of set-up: every further letter would be refused too, and remembered. Messages to one person still
go out. The lease of campaigns looks at ``domains.stopped_at``.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import NotFound


class Stop(Struct):
    """Why and since when."""

    reason: str
    at: datetime


STOP = """
UPDATE domains SET stopped_reason = stop.reason, stopped_at = COALESCE($3, now())
FROM unnest($1::bigint[], $2::text[]) AS stop (id, reason)
WHERE domains.id = stop.id AND stopped_at IS NULL
"""


async def stop(db: Connection, reasons: Mapping[int, str], *, now: datetime | None = None) -> None:
    """Stop domains, given the reason by id; one that is stopped already keeps its first reason."""
    ids = sorted(reasons)
    await db.execute(STOP, ids, [reasons[id] for id in ids], now)


RESUME = """
UPDATE domains SET stopped_reason = NULL, stopped_at = NULL, resumed_at = COALESCE($2, now()) WHERE id = $1 RETURNING pg_notify('mailbase_sending', '')
"""


async def resume(db: Connection, domain_id: int, *, now: datetime | None = None) -> None:
    """Let a domain's campaigns go on; workers are woken when the transaction commits.

    The two days after which a refused letter is given up begin anew: it could not have gone out meanwhile.

    Raises:
        NotFound: there is no such domain.

    """
    if not await db.fetch(RESUME, domain_id, now):
        raise NotFound("There is no such domain.")


GET = """
SELECT stopped_reason, stopped_at FROM domains WHERE id = $1 AND stopped_at IS NOT NULL
"""


async def get(db: Connection, domain_id: int) -> Stop | None:
    """Return the stop of a domain, if it is stopped."""
    row = await db.fetchrow(GET, domain_id)
    return Stop(row["stopped_reason"] or "", row["stopped_at"]) if row else None
