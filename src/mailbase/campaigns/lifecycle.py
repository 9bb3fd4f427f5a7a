"""Pause, resume, cancel, finish: what happens to a campaign after its launch.

The mark before a letter's hand-over looks at the campaign's status, so pausing and cancelling hold from the moment they are
committed. A cancelled campaign's waiting letters become ``skipped`` in slices: the first one here, the rest in the fan-out's
loop; ``finished_at`` is set when none is left.
"""

from collections.abc import Sequence
from typing import Final

from mailbase.campaigns import campaigns, states
from mailbase.campaigns.campaigns import Campaign
from mailbase.db import Connection
from mailbase.sending.deliveries import counters, deliveries

SLICE: Final = 10_000
"""How many letters one transaction creates or skips at most."""
CANCELLED: Final = "cancelled"


PAUSE = """
UPDATE campaigns SET status = 'paused', paused_from = status, updated_at = now() WHERE id = $1
"""


async def pause(db: Connection, campaign_id: int) -> Campaign:
    """Stop handing over letters; those a worker has already marked still go.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_state``.

    """
    held = await campaigns.hold(db, campaign_id)
    states.allow(held.campaign.status, "pause")
    await db.execute(PAUSE, campaign_id)
    return await campaigns.get(db, campaign_id)


RESUME = """
UPDATE campaigns SET status = paused_from, paused_from = NULL, stopped_reason = NULL, updated_at = now() WHERE id = $1
RETURNING pg_notify('mailbase_sending', '')
"""


async def resume(db: Connection, campaign_id: int) -> Campaign:
    """Go on where it was: scheduled (at once, if its time has passed) or sending.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_state``.

    """
    held = await campaigns.hold(db, campaign_id)
    states.allow(held.campaign.status, "resume")
    await db.execute(RESUME, campaign_id)
    return await campaigns.get(db, campaign_id)


CANCEL = """
UPDATE campaigns SET status = 'cancelled', paused_from = NULL, updated_at = now() WHERE id = $1
RETURNING pg_notify('mailbase_sending', '')
"""


async def cancel(db: Connection, campaign_id: int) -> Campaign:
    """Send no more of it, ever.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_state``.

    """
    held = await campaigns.hold(db, campaign_id)
    states.allow(held.campaign.status, "cancel")
    await db.execute(CANCEL, campaign_id)
    await deliveries.skip_waiting(db, campaign_id, CANCELLED, limit=SLICE, slot=counters.own_slot())
    await finish(db, [campaign_id])
    return await campaigns.get(db, campaign_id)


# The caller holds the rows' locks from an earlier statement: this one's snapshot sees every delivery that was ever created.
FINISH = """
UPDATE campaigns SET status = CASE status WHEN 'sending' THEN 'sent' ELSE status END, finished_at = now(), updated_at = now()
WHERE id = ANY($1::bigint[]) AND (status = 'cancelled' OR status = 'sending' AND fanned_out) AND finished_at IS NULL
    AND (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'queued' ORDER BY provider, rank LIMIT 1) IS NULL
    AND (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'deferred' ORDER BY provider, due_at LIMIT 1) IS NULL
RETURNING id
"""


async def finish(db: Connection, campaign_ids: Sequence[int]) -> int:
    """Close those of the (held) campaigns whose every delivery is final; return how many."""
    return len(await db.fetch(FINISH, campaign_ids))
