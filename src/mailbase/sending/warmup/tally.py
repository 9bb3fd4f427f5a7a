"""What became of letters, counted where their allowance was taken: what the warm-up is judged by.

Counted for capped domains alone, in the ten minutes in which a letter was taken; what is heard later about a letter that went out
counts when it is heard.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, NamedTuple

from mailbase.db import Connection
from mailbase.sending.outcomes import Outcome
from mailbase.sending.warmup.rules import TOTAL

What = Literal["sent", "hard", "deferred", "blocked", "complaints", "unsubscribed"]
KINDS: Final[tuple[What, ...]] = ("sent", "hard", "deferred", "blocked", "complaints", "unsubscribed")


class Result(NamedTuple):
    """What became of one letter of a capped domain."""

    domain_id: int
    egress: str
    provider: str
    bucket: datetime
    what: What


def said(outcome: Outcome, *, first: bool) -> What | None:
    """Return what an outcome says of the sender; None where it says nothing.

    A letter that waits counts at its ``first`` refusal, so each recipient once; greylisting is no sign of anything.
    """
    match outcome.kind:
        case "sent":
            return "sent"
        case "refused" if first or outcome.bounce_class == "hard":
            return {"hard": "hard", "block": "blocked"}.get(outcome.bounce_class or "")  # type: ignore[return-value]
        case "deferred" if first and outcome.reason != "greylisted" and not outcome.free:
            return "deferred"
    return None


NOTE = """
INSERT INTO allowances AS tally (domain_id, egress, provider, bucket, taken, sent, hard, deferred, blocked, complaints, unsubscribed)
SELECT domain_id, egress, provider, bucket, 0, sent, hard, deferred, blocked, complaints, unsubscribed
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[])
    AS one (domain_id, egress, provider, bucket, sent, hard, deferred, blocked, complaints, unsubscribed)
ON CONFLICT (domain_id, provider, bucket, egress) DO UPDATE SET
    sent = tally.sent + excluded.sent, hard = tally.hard + excluded.hard, deferred = tally.deferred + excluded.deferred,
    blocked = tally.blocked + excluded.blocked, complaints = tally.complaints + excluded.complaints,
    unsubscribed = tally.unsubscribed + excluded.unsubscribed
"""


async def note(db: Connection, results: Iterable[Result]) -> None:
    """Count results, by provider and in total, in the caller's transaction; nothing at all where there are none."""
    counted: dict[tuple[int, bool, str, str, datetime], Counter[What]] = {}
    for one in results:
        for provider in (TOTAL, one.provider):
            key = (one.domain_id, provider != TOTAL, provider, one.egress, one.bucket)
            counted.setdefault(key, Counter())[one.what] += 1
    if not counted:
        return
    # The order of rows is the order of locks, as where allowances are taken: the totals first.
    rows = [
        (domain_id, egress, provider, bucket, *(sums[kind] for kind in KINDS))
        for (domain_id, _, provider, egress, bucket), sums in sorted(counted.items())
    ]
    await db.execute(NOTE, *(list(column) for column in zip(*rows, strict=True)))


LATER = """
SELECT delivery.domain_id, delivery.egress, delivery.provider,
    date_bin('10 minutes', COALESCE($2, clock_timestamp()), '2000-01-01 00:00:00+00') AS bucket
FROM deliveries AS delivery
JOIN warmup_keys AS key ON key.domain_id = delivery.domain_id AND key.egress = delivery.egress AND key.provider = delivery.provider
WHERE delivery.id = $1 AND delivery.campaign_id IS NOT NULL
    AND COALESCE((SELECT status FROM subscribers WHERE subscribers.id = delivery.subscriber_id), '') <> ALL($3::text[])
"""

TOLD: Final[dict[What, list[str]]] = {
    "unsubscribed": ["unsubscribed", "complained", "bounced"],
    "complaints": ["complained"],
}
"""Who is this already is not counted again."""


async def heard(db: Connection, delivery_id: int, what: What, *, now: datetime | None = None) -> None:
    """Count what was heard later about a letter that went out: a complaint, a departure, a bounce that came as mail.

    Before the person is changed by it: that is the order of locks.
    """
    rows = await db.fetch(LATER, delivery_id, now, TOLD.get(what, []))
    await note(db, [Result(row["domain_id"], row["egress"], row["provider"], row["bucket"], what) for row in rows])
