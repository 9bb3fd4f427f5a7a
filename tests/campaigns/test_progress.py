"""What holds a campaign, and when it is through: never a date that moves ahead while nothing can leave."""

from datetime import UTC, datetime, timedelta

import pytest

from mailbase.campaigns import campaigns, progress
from mailbase.sending.relays import egress, relays
from mailbase.vault import Vault

VAULT = Vault(["a secret key of enough letters for a vault"])


@pytest.fixture
async def sending(db, domain, people, written):
    """A campaign of four letters, two for google and two for yahoo, straight to mail hosts; none has left."""
    campaign = await written()
    await db.execute(
        "UPDATE campaigns SET status = 'sending', started_at = now() - interval '10 minutes', fanned_out = true WHERE id = $1",
        campaign.id,
    )
    await db.execute("INSERT INTO warmups (domain_id, preset) VALUES ($1, 'none')", domain)
    for provider in ("google", "yahoo"):
        await db.execute(
            "INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, provider) SELECT $1, id, $2, $3 FROM unnest($4::bigint[]) AS id",
            campaign.id, domain, provider, await people(2),
        )  # fmt: skip
        await db.execute(
            "INSERT INTO campaign_lanes (campaign_id, provider, letters) VALUES ($1, $2, 2)", campaign.id, provider
        )
    await db.execute(
        "INSERT INTO counters (campaign_id, key, slot, n) VALUES ($1, 'delivery.queued', 0, 4), ($1, 'delivery.sent', 0, 4)",
        campaign.id,
    )
    await egress.see(db, ["mx"])
    return campaign.id


async def defer(db, provider, reply, *, after="1 minute", attempts=0, refused=True):
    """Let a provider's letters wait after a refusal."""
    await db.execute(
        "UPDATE deliveries SET state = 'deferred', last_reply = $2, due_at = now() + $3::text::interval, attempts = $4,"
        " refused_since = CASE WHEN $5 THEN now() END WHERE provider = $1",
        provider, reply, after, attempts, refused,
    )  # fmt: skip


async def shown(db, campaign_id):
    """Return the campaign's progress."""
    return await progress.progress(db, await campaigns.look(db, campaign_id), to_outbox=False)


async def test_a_provider_that_turns_us_away_is_named_in_its_words(db, sending):
    """As long as another takes letters there is an end in sight; where nothing can leave there is none."""
    free = await shown(db, sending)
    assert (free.limited_by, free.reason) == ([], None)
    assert free.finishes_at is not None
    await defer(db, "google", "421 4.7.28 an unusual rate of mail")
    one = await shown(db, sending)
    assert (one.limited_by, one.reason) == (["provider:google"], "421 4.7.28 an unusual rate of mail")
    assert one.finishes_at is not None
    await defer(db, "yahoo", "421 4.7.0 [TSS04] later")
    both = await shown(db, sending)
    assert both.limited_by == ["provider:google", "provider:yahoo"]
    assert both.finishes_at is None


async def test_a_suspended_provider_is_named_although_its_letters_never_left_the_queue(db, sending):
    """By a rule or by hand, over this way out or all; another way's suspension is not this one's."""
    suspend = "INSERT INTO provider_overrides (provider, egress, suspend, reason, expires_at) VALUES ($1, $2, true, $3, now() + interval '1 hour')"
    await db.execute(suspend, "google", "mx:192.0.2.9", "elsewhere")
    assert (await shown(db, sending)).limited_by == []
    await db.execute(suspend, "google", "*", "Google takes it for unwanted mail.")
    held = await shown(db, sending)
    assert (held.limited_by, held.reason) == (["provider:google"], "Google takes it for unwanted mail.")
    assert held.finishes_at is not None
    await db.execute("DELETE FROM deliveries WHERE provider = 'yahoo'")
    assert (await shown(db, sending)).finishes_at is None


async def test_a_full_provider_is_named_and_has_an_end(db, sending):
    """No room just now is a matter of pace."""
    await defer(db, "google", "google takes no more letters at the moment", refused=False)
    full = await shown(db, sending)
    assert full.limited_by == ["provider:google"]
    assert full.finishes_at is not None


async def test_a_provider_whose_day_is_used_up_says_when_the_next_one_begins(db, domain, sending):
    """Where the total has room and the providers' own caps have none it is the warm-up, and the end does not move with the clock."""
    await db.execute('UPDATE domains SET provider_caps = \'{"google": 1, "yahoo": 1}\' WHERE id = $1', domain)
    await db.execute("UPDATE warmups SET preset = 'standard', restricted = true WHERE domain_id = $1", domain)
    await db.execute(
        "INSERT INTO allowances (domain_id, egress, provider, bucket, taken)"
        " SELECT $1, 'mx', provider, date_bin('10 minutes', now() - interval '1 hour', '2000-01-01'), 1 FROM unnest('{*,google,yahoo}'::text[]) AS provider",
        domain,
    )
    held = await shown(db, sending)
    assert held.limited_by == ["warmup"]
    assert timedelta(hours=46) < held.finishes_at - datetime.now(UTC) < timedelta(hours=48)
    await db.execute("UPDATE warmups SET preset = 'none', restricted = false WHERE domain_id = $1", domain)
    assert (await shown(db, sending)).limited_by == []


async def test_letters_refused_for_themselves_wait_for_their_next_try(db, sending):
    """Greylisting is no provider's limit; the end is the last of the next tries, whenever one looks."""
    await defer(db, "google", "451 4.2.0 greylisted", after="5 minutes", attempts=1)
    assert (await shown(db, sending)).limited_by == []
    await defer(db, "yahoo", "452 4.2.2 over quota", after="40 minutes", attempts=3)
    waiting = await shown(db, sending)
    assert waiting.limited_by == ["retries"]
    assert timedelta(minutes=38) < waiting.finishes_at - datetime.now(UTC) < timedelta(minutes=41)


async def test_every_way_out_counts(db, sending):
    """A source address that is not this machine's stops the campaign and says why; with another way left it goes on."""
    await egress.stop(db, "mx", "connect: 192.0.2.9 is not an address of this machine")
    alone = await shown(db, sending)
    assert (alone.limited_by, alone.finishes_at) == (["relay"], None)
    assert alone.reason == "connect: 192.0.2.9 is not an address of this machine"
    await relays.create(db, VAULT, name="second", url="smtp://relay.example?tls=none")
    beside = await shown(db, sending)
    assert (beside.limited_by, beside.reason) == (["relay"], "mx: connect: 192.0.2.9 is not an address of this machine")
    assert beside.finishes_at is not None
