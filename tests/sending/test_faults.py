"""Letters that cannot be made: one alone fails, a campaign of them stops and says why, and nobody else waits for either."""

import pytest

from mailbase.audience import addresses
from mailbase.campaigns import campaigns, lifecycle, progress
from mailbase.letters.content import Sender
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.faults import FIRST, MOST, Faults
from mailbase.sending.dispatch.messages import NewMessage
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states
from sending.test_crash import is_final, wait_for, workers

POISON = "UPDATE subscribers SET attributes = $2 WHERE id = ANY ($1::bigint[])"


async def test_what_nobody_foresaw_ends_with_its_letter_or_stops_its_campaign(db, database_url, tmp_path):
    """One letter that breaks the composing fails with the reason; a campaign of them is paused with it, and goes on when resumed."""
    domain_id = await add_domain(db)
    people, odd = await add_people(db, 60), await add_people(db, 60, prefix="odd")
    await db.execute(POISON, [*odd, people[7]], ["not an object"])
    broken = await add_campaign(db, domain_id, odd)
    sound = await add_campaign(db, domain_id, people)
    for headers in (["not an object"], {}):
        await messages.create(
            db,
            NewMessage(
                kind="transactional", from_=Sender("", "a@news.example"), to=addresses.parse("ann@example.com"), subject="s", text="t",
                headers=headers,
            ),
        )  # fmt: skip
    with workers(1, database_url, tmp_path):
        await wait_for(lambda: is_final(db, sound))
        await wait_for(lambda: db.fetchval("SELECT status = 'paused' FROM campaigns WHERE id = $1", broken))
        ends = "SELECT array_agg(state::text ORDER BY id) FROM deliveries WHERE message_id IS NOT NULL"
        await wait_for(lambda: db.fetchval(f"SELECT ({ends}) = '{{failed,sent}}'"))
        assert await states(db, sound) == {"sent": 59, "failed": 1}
        said = await db.fetchrow("SELECT reason, last_reply FROM deliveries WHERE subscriber_id = $1", people[7])
        assert said["reason"] == "content"
        assert said["last_reply"].startswith("AttributeError: ")
        assert "AttributeError: " in await db.fetchval("SELECT stopped_reason FROM campaigns WHERE id = $1", broken)
        shown = await progress.progress(db, await campaigns.look(db, broken), to_outbox=True)
        assert "AttributeError: " in shown.reason
        failed = await db.fetchval(
            "SELECT count(*) FROM deliveries WHERE campaign_id = $1 AND state = 'failed'", broken
        )
        assert failed < FIRST
        await db.execute(POISON, odd, {"name": "Ann"})
        async with db.transaction():
            campaign = await lifecycle.resume(db, broken)
        assert (campaign.status, campaign.stopped_reason) == ("sending", None)
        await wait_for(lambda: is_final(db, broken))
    assert (await states(db, broken))["sent"] == 60 - failed
    for campaign_id in (broken, sound):
        await assert_counters(db, campaign_id)


@pytest.mark.parametrize(
    ("batches", "stops"),
    [
        ("f" * (FIRST - 1), False),
        ("f" * FIRST, True),
        ("c" + "f" * (MOST - 1), False),
        ("c" + "f" * MOST, True),
        ("cccf" * 100, False),
        ("cfff" * MOST, True),
    ],
)
def test_a_campaign_stops_when_more_letters_fail_than_can_be_made(batches, stops):
    """A few that fail at the start, or many more than are made later, stop it; now and then one does not."""
    faults = Faults()
    said = [faults.heard(7, ["broken"] if one == "f" else [], of=1) for one in batches]
    assert any(said) == stops
