"""Deliveries: one row is one letter's fate, from the fan-out to the last word of the other side.

    queued ─▶ leased ─▶ handing_over ─▶ sent | bounced | failed | unknown
      ▲          │            │ ├──────▶ deferred ─▶ (due again) leased
      └──────────┴────────────┘ └──────▶ skipped (also straight from queued, leased, deferred)

A *lease* (:mod:`~mailbase.sending.leases`) is cheap and promises nothing; the *mark* ``handing_over``
(:mod:`~mailbase.sending.marks`) is the only promise, committed before any content goes out; the *record*
(:mod:`~mailbase.sending.records`) is what became of it. Each change of a campaign's delivery moves the counters in the same
transaction, by :func:`moved`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from mailbase.db import Connection
from mailbase.sending import counters

State = Literal["queued", "leased", "handing_over", "sent", "deferred", "failed", "bounced", "unknown", "skipped"]

SHOWN: Final = {"leased": "queued", "handing_over": "queued"}
BY_PROVIDER: Final = frozenset({"sent", "bounced", "deferred"})


def moved(campaign_id: int, provider: str, old: str | None, new: str, n: int = 1) -> Iterator[tuple[int, str, int]]:
    """Yield the counter changes of ``n`` deliveries that went from one state to another (``old`` None: they are new)."""
    before, after = SHOWN.get(old, old) if old else None, SHOWN.get(new, new)
    if before == after:
        return
    if before is not None:
        yield campaign_id, f"delivery.{before}", -n
        if before in BY_PROVIDER:
            yield campaign_id, f"provider.{provider}.{before}", -n
    yield campaign_id, f"delivery.{after}", n
    if after in BY_PROVIDER:
        yield campaign_id, f"provider.{provider}.{after}", n


CREATE_SLICE = """
WITH created AS (
    INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, provider)
    SELECT $1, subscriber.id, $2, COALESCE(recipient_domains.provider, 'other')
    FROM unnest($3::bigint[]) AS picked (id)
    JOIN subscribers AS subscriber ON subscriber.id = picked.id
        AND subscriber.id BETWEEN ($3::bigint[])[1] AND ($3::bigint[])[cardinality($3::bigint[])]
    LEFT JOIN recipient_domains ON recipient_domains.domain = subscriber.domain
    ORDER BY subscriber.id
    ON CONFLICT (campaign_id, subscriber_id) DO NOTHING
    RETURNING 1
)
SELECT count(*), pg_notify('mailbase_sending', '') FROM created
"""


async def create_slice(
    db: Connection, campaign_id: int, domain_id: int, subscriber_ids: Sequence[int], *, slot: int
) -> int:
    """Queue a letter for each subscriber (ids ascending) that has none of this campaign yet; return how many were new.

    Runs in the caller's transaction (with the cursor of the fan-out); workers are woken when it commits.
    """
    created: int = await db.fetchval(CREATE_SLICE, campaign_id, domain_id, subscriber_ids)
    await counters.add(db, moved(campaign_id, "", None, "queued", created), slot=slot)
    return created


SKIP_WAITING = """
WITH waiting AS (
    SELECT id, state FROM deliveries
    WHERE campaign_id = $1 AND state IN ('queued', 'deferred')
    ORDER BY due_at, id LIMIT $3
    FOR UPDATE
), skipped AS (
    UPDATE deliveries AS delivery SET state = 'skipped', reason = $2
    FROM waiting WHERE delivery.id = waiting.id
    RETURNING delivery.provider, waiting.state
)
SELECT provider, state::text, count(*) FROM skipped GROUP BY provider, state
"""


async def skip_waiting(db: Connection, campaign_id: int, reason: str, *, limit: int, slot: int) -> int:
    """Skip up to ``limit`` letters that wait in a queue (cancelled, past ``send_until``); return how many.

    Letters that a worker holds are skipped by its mark, or come back to the queue and are skipped by the next call.
    """
    rows = await db.fetch(SKIP_WAITING, campaign_id, reason, limit)
    changes = [
        change for row in rows for change in moved(campaign_id, row["provider"], row["state"], "skipped", row["count"])
    ]
    await counters.add(db, changes, slot=slot)
    return sum(row["count"] for row in rows)
