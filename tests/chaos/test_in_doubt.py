"""A connection that goes after the final dot: who promised what then."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from mailbase.sending.deliveries import leases, records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome, stale
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states

NOW = datetime.now(UTC)


async def lose(db, campaign_id, times=1, *, after=0, said=None):
    """Mark the only letter there is and lose its answer, so many times; return its state and how many attempts it has had."""
    now = NOW + timedelta(hours=after)
    for _ in range(times):
        now += timedelta(hours=1)
        if campaign_id is None:
            fence, (letter,) = await leases.lease_messages(db, 1, now=now)
        else:
            fence, (letter,) = await leases.lease_campaign(db, campaign_id, 1, now=now)
        await db.execute("UPDATE claims SET marked = 1")
        one = Handed(
            letter.id,
            fence,
            campaign_id,
            None,
            letter.subscriber_id,
            "other",
            letter.email,
            None,
            letter.attempts + 1,
            None,
        )
        outcome = said or Outcome(letter.id, "unknown", 0, None, "the connection went", "content")
        assert await records.record(db, [(one, outcome)], slot=0, random=Random(1), now=now) == 1
    row = await db.fetchrow("SELECT state::text, attempts, due_at FROM deliveries")
    return row["state"], row["attempts"], row["due_at"] - now


async def add_one(db, promise):
    """Add one letter under a promise; return its campaign, None for a message."""
    if promise == "message":
        await db.execute(
            """
            WITH message AS (
                INSERT INTO messages (kind, from_email, email, email_key, subject, text)
                VALUES ('transactional', 'shop@news.example', 'ann@example.com', 'ann@example.com', 'Order', 'Thanks') RETURNING id
            )
            INSERT INTO deliveries (message_id, created_at) SELECT id, now() FROM message
            """
        )
        return None
    return await add_campaign(db, await add_domain(db), await add_people(db, 1), on_crash=promise)


async def test_at_most_once_is_not_sent_again(db):
    """Without an answer a letter that may be sent once stays in doubt."""
    campaign_id = await add_one(db, "at_most_once")
    assert (await lose(db, campaign_id))[:2] == ("unknown", 1)
    await assert_counters(db, campaign_id)


@pytest.mark.parametrize("promise", ["at_least_once", "message"])
async def test_at_least_once_is_sent_again(db, promise):
    """Without an answer a letter that must arrive is tried again as the schedule has it; who lost it three times may have three of it."""
    campaign_id = await add_one(db, promise)
    state, attempts, wait = await lose(db, campaign_id)
    assert (state, attempts) == ("deferred", 1)
    assert timedelta(minutes=3) < wait < timedelta(minutes=7)
    assert (await lose(db, campaign_id, after=1))[:2] == ("deferred", 2)
    assert (await lose(db, campaign_id, after=2))[:2] == ("unknown", 3)
    if campaign_id is not None:
        await assert_counters(db, campaign_id)


async def test_what_we_hold_back_ourselves_costs_nothing(db):
    """A letter that a second look holds back goes to the queue as it was: no attempt counts, and it waits for nothing."""
    campaign_id = await add_one(db, "at_most_once")
    held = type("Envelope", (), {"delivery_id": await db.fetchval("SELECT id FROM deliveries")})
    assert await lose(db, campaign_id, said=stale(held)) == ("queued", 0, timedelta())
    assert await states(db, campaign_id) == {"queued": 1}
    await assert_counters(db, campaign_id)
