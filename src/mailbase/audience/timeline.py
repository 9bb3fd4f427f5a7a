"""The timeline: what happened with one person, newest first.

Opens and clicks live in ``signals``, imports in the ledger of consents, of which each writes a line a person; they are merged in.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from mailbase.db import Connection

Kind = Literal[
    "created", "imported", "updated", "submitted", "confirmation_sent", "confirmed", "preferences", "unsubscribed", "bounced", "complained",
    "archived", "unarchived", "paused", "resumed", "consent_withdrawn", "address_asked", "address_changed", "address_stopped", "exported",
    "leaving_reason",
]  # fmt: skip


class Event(msgspec.Struct):
    """One line of the timeline."""

    id: int
    """Orders the lines of all tables: microseconds since 1970, then whether it is a signal, then the row."""
    kind: str
    at: datetime
    campaign_id: int | None
    delivery_id: int | None
    form_id: int | None
    data: dict[str, Any]


NOTE = """
INSERT INTO subscriber_events (subscriber_id, kind, campaign_id, delivery_id, form_id, data)
SELECT id, $2, $3, $4, $5, $6 FROM subscribers WHERE id = $1 FOR KEY SHARE
"""


async def note(
    db: Connection,
    subscriber_id: int,
    kind: Kind | str,
    *,
    campaign_id: int | None = None,
    delivery_id: int | None = None,
    form_id: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Append a line; nothing for somebody who is gone."""
    await db.execute(NOTE, subscriber_id, kind, campaign_id, delivery_id, form_id, dict(data or {}))


PAGE = """
SELECT * FROM (
    SELECT ((extract(epoch FROM at) * 1000000)::bigint << 11) | 1024 | (id & 1023) AS id, kind, at, campaign_id, delivery_id, form_id, data
      FROM subscriber_events WHERE subscriber_id = $1
    UNION ALL
    SELECT ((extract(epoch FROM imported_at) * 1000000)::bigint << 11) | 1024 | (id & 1023), 'imported', imported_at, NULL, NULL, NULL,
           jsonb_build_object('import_id', import_id, 'how', CASE WHEN import_created THEN 'created' ELSE 'updated' END)
      FROM consents WHERE subscriber_id = $1 AND import_id IS NOT NULL
    UNION ALL
    SELECT ((extract(epoch FROM at) * 1000000)::bigint << 11) | (id & 1023), CASE kind WHEN 'open' THEN 'opened' ELSE 'clicked' END, at, campaign_id, delivery_id,
           NULL, jsonb_strip_nulls(jsonb_build_object('link', link, 'verdict', verdict, 'reason', reason))
      FROM signals WHERE subscriber_id = $1
) AS merged
WHERE $2::bigint IS NULL OR id < $2
ORDER BY id DESC LIMIT $3
"""


async def page(
    db: Connection, subscriber_id: int, *, limit: int | None = None, before: int | None = None
) -> list[Event]:
    """Return lines of a person's timeline, newest first; without a limit, all of them."""
    return [Event(**row) for row in await db.fetch(PAGE, subscriber_id, before, limit)]


COUNT = """
SELECT (SELECT count(*) FROM subscriber_events WHERE subscriber_id = $1) + (SELECT count(*) FROM signals WHERE subscriber_id = $1)
     + (SELECT count(*) FROM consents WHERE subscriber_id = $1 AND import_id IS NOT NULL)
"""


async def count(db: Connection, subscriber_id: int) -> int:
    """Return how many lines one person's timeline has."""
    total: int = await db.fetchval(COUNT, subscriber_id)
    return total
