"""The second look: a marked letter that waits in memory for a connection is looked at again, so that a stop holds for it, too.

    marked ─▶ waits (a slow relay, a provider's pace) ──every quarter of a second──▶ may still go? ─▶ content
                                                                     └─ no ─▶ revoked: back to the queue, nothing of it went out

A pause, a cancellation, a stopped domain, a person who leaves or is suppressed: each holds within a second, whatever is queued.
Letters that leave at once are never looked at, so this costs nothing where the relay is fast.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mailbase.db import Connection
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Envelope

EVERY: Final = 0.25
"""Seconds between two looks, and how long a letter may have waited unseen."""

# Found by id, as everywhere on this path. Messages are looked at in their mark alone: they wait for no campaign.
REVOKED: Final = """
SELECT letter.id
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS letter (id, fence, email)
LEFT JOIN deliveries AS delivery ON delivery.id = letter.id
LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
LEFT JOIN domains AS domain ON domain.id = campaign.domain_id
LEFT JOIN subscribers AS subscriber ON subscriber.id = delivery.subscriber_id
WHERE delivery.id IS NULL OR delivery.state::text NOT IN ('queued', 'deferred') OR NOT EXISTS (SELECT FROM claims WHERE claims.fence = letter.fence)
  OR delivery.campaign_id IS NOT NULL AND (
    campaign.status <> 'sending' OR campaign.send_until <= COALESCE($4, now()) OR domain.stopped_at IS NOT NULL
    OR subscriber.id IS NULL OR subscriber.status <> 'active' OR subscriber.email <> letter.email
    OR EXISTS (SELECT FROM suppressions WHERE suppressions.value IN (subscriber.email_key, subscriber.domain))
  )
"""


async def revoked(db: Connection, letters: Sequence[tuple[int, int, str]], *, now: datetime | None = None) -> set[int]:
    """Return which marked letters, as (delivery id, fence, address written for), may not go out any more."""
    rows = await db.fetch(REVOKED, *(list(column) for column in zip(*letters, strict=True)), now)
    return {row["id"] for row in rows}


class Waiting:
    """The letters of one lane whose outcome is not known yet, and since when they wait."""

    def __init__(self) -> None:
        self._letters: dict[int, tuple[float, Handed, Envelope]] = {}

    def add(self, letter: Handed, envelope: Envelope, now: float) -> None:
        """Note a letter that was marked just now."""
        self._letters[letter.id] = (now, letter, envelope)

    def drop(self, delivery_id: int) -> None:
        """Note that a letter has its outcome."""
        self._letters.pop(delivery_id, None)

    def due(self, now: float) -> list[tuple[Handed, Envelope]]:
        """Return those that have waited unseen for :data:`EVERY`."""
        return [
            (letter, envelope)
            for since, letter, envelope in self._letters.values()
            if now - since >= EVERY and not envelope.revoked
        ]

    def revoke(self) -> None:
        """Let nothing go out any more whose content has not begun: what waits goes back to the queue."""
        for _, _, envelope in self._letters.values():
            envelope.revoked = True

    async def look(self, db: Connection, now: float) -> None:
        """Revoke what may not go out any more."""
        due = self.due(now)
        if not due:
            return
        found = await revoked(db, [(letter.id, letter.fence, letter.email) for letter, _ in due])
        for letter, envelope in due:
            if letter.id in found:
                envelope.revoked = True
