"""The timeline: what happened with one person, newest first. Opens and clicks live in ``signals`` and are merged in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from mailbase.db import Connection

Kind = Literal[
    "created", "imported", "updated", "submitted", "confirmation_sent", "confirmed", "preferences", "unsubscribed", "bounced", "complained",
    "archived",
    "unarchived",
]  # fmt: skip


class Event(msgspec.Struct):
    """One line of the timeline."""

    kind: str
    at: datetime
    campaign_id: int | None
    delivery_id: int | None
    form_id: int | None
    data: dict[str, Any]


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where a page of the timeline ended: a moment, which table, and the row in it."""

    at: datetime
    table: int
    id: int


NOTE = """
INSERT INTO subscriber_events (subscriber_id, kind, campaign_id, delivery_id, form_id, data) VALUES ($1, $2, $3, $4, $5, $6)
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
    """Append a line."""
    await db.execute(NOTE, subscriber_id, kind, campaign_id, delivery_id, form_id, dict(data or {}))


PAGE = """
SELECT kind, at, campaign_id, delivery_id, form_id, data, from_table, id FROM (
    (SELECT kind, at, campaign_id, delivery_id, form_id, data, 1 AS from_table, id
       FROM subscriber_events
      WHERE subscriber_id = $1 AND ($2::timestamptz IS NULL OR (at, 1, id) < ($2, $3::integer, $4::bigint))
      ORDER BY at DESC, id DESC LIMIT $5)
    UNION ALL
    (SELECT CASE kind WHEN 'open' THEN 'opened' ELSE 'clicked' END, at, campaign_id, delivery_id, NULL,
            jsonb_strip_nulls(jsonb_build_object('link', link, 'verdict', verdict, 'reason', reason)), 0, id
       FROM signals
      WHERE subscriber_id = $1 AND ($2::timestamptz IS NULL OR (at, 0, id) < ($2, $3::integer, $4::bigint))
      ORDER BY at DESC, id DESC LIMIT $5)
) AS merged
ORDER BY at DESC, from_table DESC, id DESC LIMIT $5
"""


async def page(
    db: Connection, subscriber_id: int, *, limit: int, after: Place | None = None
) -> tuple[list[Event], Place | None]:
    """Return one page, newest first, and where the next one starts (None: that was all)."""
    start = (after.at, after.table, after.id) if after else (None, 0, 0)
    rows = await db.fetch(PAGE, subscriber_id, *start, limit + 1)
    more = rows[limit - 1] if len(rows) > limit else None
    events = [Event(*list(row.values())[:6]) for row in rows[:limit]]
    return events, Place(more["at"], more["from_table"], more["id"]) if more else None
