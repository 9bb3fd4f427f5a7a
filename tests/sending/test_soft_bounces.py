"""Soft bounces said by the other side at once: five days of them end a person, blocks never do."""

import random
from datetime import UTC, datetime, timedelta

from mailbase.sending.deliveries import records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, in_hand

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


async def refused(db, domain_id, reader, day, cls):
    """Send the person a letter that is refused on that day."""
    campaign_id = await add_campaign(db, domain_id, [reader])
    one = await db.fetchval("SELECT id FROM deliveries WHERE campaign_id = $1", campaign_id)
    handed = Handed(
        one,
        await in_hand(db, one, campaign_id=campaign_id),
        campaign_id,
        domain_id,
        reader,
        "other",
        "p1@example.com",
        None,
        1,
        None,
    )
    kind, code = ("sent", 250) if cls == "sent" else ("refused", 552)
    outcome = Outcome(one, kind, code, "5.2.2", "mailbox full", "rcpt", bounce_class=None if cls == "sent" else cls)
    await records.record(db, [(handed, outcome)], slot=0, random=random.Random(1), now=NOON + timedelta(days=day))
    await assert_counters(db, campaign_id)


async def status(db, reader):
    """Return the person's status and why the address is suppressed."""
    return tuple(
        await db.fetchrow(
            "SELECT status, (SELECT reason FROM suppressions WHERE value = email_key) FROM subscribers WHERE id = $1",
            reader,
        )
    )


async def test_five_days(db):
    """Refused softly on five days a person is bounced, with the reason soft_bounces; a success in between starts anew."""
    domain_id = await add_domain(db)
    first, second, third = await add_people(db, 3)
    for day in range(5):
        assert await status(db, first) == ("active", None)
        await refused(db, domain_id, first, day, "soft")
        await refused(db, domain_id, second, day, "sent" if day == 2 else "soft")
        await refused(db, domain_id, third, day, "block")
    assert await status(db, first) == ("bounced", "soft_bounces")
    assert await status(db, second) == await status(db, third) == ("active", None)
