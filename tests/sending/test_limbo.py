"""Whatever fails on the way, a letter comes out of the worker's hands again: none stays claimed and forgotten while the worker lives."""

from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states
from sending.test_crash import is_final, wait_for, workers
from sending.test_warmup import AT_ONCE
from sink import Sink

FAILING = """
CREATE SEQUENCE times;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('times') <= TG_ARGV[0]::bigint THEN RAISE EXCEPTION 'made to fail' USING ERRCODE = TG_ARGV[1]; END IF;
    RETURN NEW;
END $$
"""


async def test_a_mark_that_fails_leaves_no_letter_behind(db, database_url, tmp_path):
    """The last batch of a lease whose mark is a deadlock's victim goes back to the queue, and is sent."""
    campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 3))
    await db.execute(FAILING)
    await db.execute(
        "CREATE TRIGGER fail BEFORE UPDATE OF marked ON claims FOR EACH ROW EXECUTE FUNCTION fail(1, '40P01')"
    )
    with Sink(tmp_path / "taken") as sink, workers(1, database_url, tmp_path, smtp_port=sink.port):
        await wait_for(lambda: is_final(db, campaign_id), 20)
        assert sorted(to for to, _ in sink.taken()) == [f"p{n}@example.com" for n in (1, 2, 3)]
    assert await states(db, campaign_id) == {"sent": 3}
    await assert_counters(db, campaign_id)


async def test_letters_without_room_are_given_back_even_at_the_second_try(db, database_url, tmp_path):
    """What the warm-up leaves of a lease is in nobody's hands, although the database failed when it was to be given back."""
    domain_id = await add_domain(db, preset="custom", schedule=[150], rules=AT_ONCE)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 400))
    await db.execute(FAILING)
    await db.execute(f"""
        CREATE FUNCTION use_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO allowances (domain_id, egress, provider, bucket, taken)
            VALUES ({domain_id}, 'relay', '*', date_bin('10 minutes', now(), '2000-01-01 00:00:00+00'), 140) ON CONFLICT DO NOTHING;
            RETURN NEW;
        END $$;
        CREATE TRIGGER use_up BEFORE INSERT ON claims FOR EACH ROW EXECUTE FUNCTION use_up();
    """)
    await db.execute(
        "CREATE TRIGGER fail BEFORE UPDATE OF aside ON claims FOR EACH ROW WHEN (NEW.marked = OLD.marked) EXECUTE FUNCTION fail(1, '53100')"
    )
    with Sink(tmp_path / "taken") as sink, workers(1, database_url, tmp_path, smtp_port=sink.port):
        await wait_for(lambda: db.fetchval("SELECT last_value > 0 AND is_called FROM times"), 20)
        await wait_for(lambda: no_leases(db, campaign_id), 20)


async def no_leases(db, campaign_id):
    """Return whether nobody holds a letter."""
    found = await states(db, campaign_id)
    return bool(found) and not {"leased", "marked"} & found.keys()


async def test_an_answer_that_cannot_be_written_ends_the_lease(db, database_url, tmp_path):
    """A letter whose answer the database will not take is in doubt when its lease ends: the campaign is not open for ever."""
    campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 5))
    poison = await db.fetchval("SELECT min(id) FROM deliveries")
    await db.execute(FAILING)
    await db.execute(
        f"CREATE TRIGGER fail BEFORE UPDATE ON deliveries FOR EACH ROW WHEN (NEW.id = {poison} AND NEW.state = 'sent') EXECUTE FUNCTION fail(1000, '22003')"
    )
    with Sink(tmp_path / "taken") as sink, workers(1, database_url, tmp_path, smtp_port=sink.port):
        await wait_for(lambda: is_final(db, campaign_id), 20)
        assert len(sink.taken()) == 5
    assert await states(db, campaign_id) == {"sent": 4, "unknown": 1}
    await assert_counters(db, campaign_id)
