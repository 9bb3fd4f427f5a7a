"""What a worker that was killed leaves behind, and what becomes of its letters by that."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from mailbase.campaigns import campaigns, lifecycle
from mailbase.db import open_pool
from mailbase.sending.deliveries import journal, leases, marks, settle
from mailbase.sending.deliveries.journal import Journal
from mailbase.sending.deliveries.marks import Pair
from mailbase.sending.dispatch import sweep
from mailbase.sending.outcomes import Envelope
from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from sending.test_crash import wait_for
from sink import Sink


def die(*journals):
    """Let workers go without a word, as far as the kernel sees it."""
    for one in journals:
        one._release()


def left_by_all(folder):
    """Return what all dead workers left, and settle it."""
    found = []
    for path in journal.found(folder):
        with journal.left_behind(path) as left:
            found += [left] if left else []
    return found


def test_a_journal_tells_what_began_and_what_was_taken(tmp_path):
    """Read after its worker's death, a journal names the leases, what may be with the other side, and what it took."""
    kept = Journal(tmp_path)
    for fence in (7, 8):
        kept.hold(fence)
    for delivery_id in (1, 2, 3, 4):
        kept.begin(delivery_id, 7)
    kept.answered(2, 7, taken=True)
    kept.answered(3, 7, taken=False)
    kept.answered(9, 7, taken=True)
    assert left_by_all(tmp_path) == []
    die(kept)
    assert left_by_all(tmp_path) == [([7, 8], {(1, 7), (4, 7)}, {(2, 7)})]
    assert left_by_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_used_again_once_its_outcome_is_recorded(tmp_path):
    """However many letters a worker sends, its journal has room, as long as their outcomes are recorded."""
    kept = Journal(tmp_path)
    for delivery_id in range(journal.LETTERS + 100):
        kept.begin(delivery_id, 1)
        kept.forget([(delivery_id, 1)])
    kept.begin(5, 2)
    die(kept)
    (left,) = left_by_all(tmp_path)
    assert (5, 2) in left.begun


@pytest.mark.parametrize("trouble", ["full", "other boot", "cut short"])
def test_a_journal_that_cannot_be_trusted_says_nothing(tmp_path, trouble):
    """A journal with a gap in it, or one from before the machine went down, is removed and says nothing of any letter."""
    kept = Journal(tmp_path)
    kept.hold(1)
    kept.begin(1, 1)
    (file,) = tmp_path.iterdir()
    match trouble:
        case "full":
            for delivery_id in range(2, journal.LETTERS + 2):
                kept.begin(delivery_id, 1)
            kept.begin(3, 1)
            kept.close()
        case "other boot":
            os.pwrite(kept._file, b"0" * 8, 8)
            die(kept)
        case "cut short":
            os.ftruncate(kept._file, 100)
            die(kept)
    assert left_by_all(tmp_path) == []
    assert not file.exists()


def test_without_a_folder_to_write_in_nothing_is_kept_and_all_works(tmp_path):
    """Where no journal can be written there is none, and nobody fails for it."""
    (tmp_path / "file").touch()
    for kept in (Journal(tmp_path / "file"), Journal(None)):
        kept.hold(1)
        kept.begin(1, 1)
        kept.answered(1, 1, taken=True)
        kept.forget([(1, 1)])
        kept.close()
    assert left_by_all(tmp_path / "nowhere") == []


def test_a_worker_that_ends_in_order_leaves_its_journal_only_for_what_is_not_recorded(tmp_path):
    """A journal goes with its worker, unless outcomes could not be recorded: then it stays for the others."""
    one, other = Journal(tmp_path), Journal(tmp_path)
    for kept in (one, other):
        kept.hold(1)
        kept.begin(1, 1)
    one.forget([(1, 1)])
    one.close()
    other.close()
    assert [left.begun for left in left_by_all(tmp_path)] == [{(1, 1)}]


def test_the_note_comes_before_the_end_of_the_content():
    """An envelope says that it begins when its way out says so, and not before."""
    said = []
    envelope = Envelope(1, "a@x.example", "b@x.example", b"", begins=lambda: said.append(1))
    assert envelope.ours()
    assert said == []
    envelope.begin()
    assert said == [1]
    Envelope(1, "a@x.example", "b@x.example", b"").begin()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after its leases ended"])
@pytest.mark.parametrize("promise", ["at_most_once", "at_least_once"])
async def test_each_letter_of_a_dead_worker_becomes_what_its_journal_says(db, tmp_path, promise, late):
    """Of a dead worker's letters only what began and was not answered is in doubt; what was taken is sent, the rest is free again."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 6), on_crash=promise)
    fence, letters = await leases.lease_campaign(db, campaign_id, 5)
    other, (living,) = await leases.lease_campaign(db, campaign_id, 1)
    for number, held in ((fence, letters[:4]), (other, [living])):
        marked = await marks.mark_campaign(
            db, campaign_id, domain_id, number, [Pair(one.id, one.email) for one in held],
            egress="relay", to_outbox=False, slot=0,
        )  # fmt: skip
        assert len(marked.ids) == len(held)
    dead, alive = Journal(tmp_path), Journal(tmp_path)
    dead.hold(fence)
    alive.hold(other)
    alive.begin(living.id, other)
    in_doubt, taken, refused, unseen, leased = (one.id for one in letters)
    for one in (in_doubt, taken, refused):
        dead.begin(one, fence)
    dead.answered(taken, fence, taken=True)
    dead.answered(refused, fence, taken=False)
    die(dead)
    if late:
        await db.execute("UPDATE claims SET until = now() WHERE fence = $1", fence)
        assert await leases.expire(db, slot=0) == 5
    await settle.settle(db, tmp_path, slot=0)
    await leases.expire(db, slot=0)
    rows = {
        row["id"]: (row["state"], row["attempts"])
        for row in await db.fetch("SELECT id, state::text, attempts FROM deliveries")
    }
    # What its lease's end had put back into the queue stays there as it is.
    again = int(late and promise == "at_least_once")
    assert rows == {
        in_doubt: ("unknown", 1) if promise == "at_most_once" else ("queued", 1),
        taken: ("sent", 1),
        refused: ("queued", again),
        unseen: ("queued", again),
        leased: ("queued", 0),
        living.id: ("queued", 0),
    }
    await assert_counters(db, campaign_id)
    assert await settle.settle(db, tmp_path, slot=0) == 0
    alive.close()


async def test_a_journal_opens_no_campaign_that_is_just_being_closed(pool, db, tmp_path):
    """Letters in doubt that were never begun stay in doubt when their campaign is closed in that same moment."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 2))
    fence, letters = await leases.lease_campaign(db, campaign_id, 2)
    pairs = [Pair(one.id, one.email) for one in letters]
    await marks.mark_campaign(db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=0)
    dead = Journal(tmp_path)
    dead.hold(fence)
    die(dead)
    assert await leases.expire(db, slot=0, now=datetime.now(UTC) + timedelta(minutes=1)) == 2
    async with pool.acquire() as other:
        closing = other.transaction()
        await closing.start()
        await campaigns.hold(other, campaign_id)
        assert await lifecycle.finish(other, [campaign_id]) == 1
        settling = asyncio.create_task(settle.settle(db, tmp_path, slot=0))
        await asyncio.wait([settling], timeout=0.3)
        await closing.commit()
        await settling
    rows = await db.fetch("SELECT DISTINCT state::text FROM deliveries")
    assert [row["state"] for row in rows] == ["unknown"]


async def test_what_was_recorded_or_taken_over_is_left_alone(db, tmp_path):
    """A journal changes nothing of a letter that has its end already, or that another worker has leased since."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 2))
    fence, letters = await leases.lease_campaign(db, campaign_id, 2)
    dead = Journal(tmp_path)
    dead.hold(fence)
    for letter in letters:
        dead.begin(letter.id, fence)
        dead.answered(letter.id, fence, taken=True)
    await db.execute("UPDATE deliveries SET state = 'bounced' WHERE id = $1", letters[0].id)
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await leases.expire(db, slot=0, now=later) == 1
    again, (letter,) = await leases.lease_campaign(db, campaign_id, 2, now=later)
    assert (again, letter.id) != (fence, letters[0].id)
    die(dead)
    assert await settle.settle(db, tmp_path, slot=0) == 0
    assert await states(db, campaign_id) == {"bounced": 1, "leased": 1}


async def test_a_journal_nobody_understands_keeps_no_other_from_being_settled(db, tmp_path):
    """A journal that cannot be settled is put aside, and those behind it are settled all the same."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 1))
    fence, _ = await leases.lease_campaign(db, campaign_id, 1)
    odd, sound = Journal(tmp_path), Journal(tmp_path)
    odd.hold(2**64 - 1)
    sound.hold(fence)
    die(odd, sound)
    for one, name in ((odd, "1.journal"), (sound, "2.journal")):
        one._path.rename(tmp_path / name)
    assert await settle.settle(db, tmp_path, slot=0) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1.unsettled"]


async def test_leases_end_although_a_journal_cannot_be_settled(db, database_url, tmp_path):
    """While somebody holds what a journal's letters need, the letters of other dead workers go back to the queue."""
    domain_id = await add_domain(db)
    held, other = [await add_campaign(db, domain_id, await add_people(db, 1, prefix=name)) for name in "ab"]
    fence = (await leases.lease_campaign(db, held, 1))[0]
    await db.execute(
        "UPDATE deliveries SET state = 'unknown', reason = 'worker_died', fence = $1 WHERE campaign_id = $2",
        fence,
        held,
    )
    await leases.lease_campaign(db, other, 1, lease=timedelta())
    dead = Journal(tmp_path)
    dead.hold(fence)
    die(dead)
    stop = asyncio.Event()
    impatient = database_url + ("&" if "?" in database_url else "?") + "lock_timeout=100"
    async with open_pool(impatient, size=2) as pool, db.transaction():
        await campaigns.hold(db, held)
        sweeping = asyncio.create_task(sweep.run(pool, slot=0, to_outbox=False, stop=stop, journals=tmp_path))
        await wait_for(lambda: pool.fetchval("SELECT NOT EXISTS (SELECT FROM claims WHERE campaign_id = $1)", other))
        stop.set()
        await sweeping
    assert len(list(tmp_path.iterdir())) == 1


async def test_of_a_killed_worker_only_what_waits_for_an_answer_is_in_doubt(db, database_url, tmp_path):
    """Killed with full hands, leases of minutes: at once all of it goes on, and at most a letter a connection stays in doubt."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 80))
    with Sink(tmp_path / "dots", delay=0.2) as sink:
        worker = WorkerProcess(database_url, tmp_path, smtp_port=sink.port, connections=5, lease=120.0)
        try:
            deadline = time.monotonic() + 60
            while len(sink.taken()) < 12:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            worker.kill()
            worker.start()
            while not (found := await states(db, campaign_id)).keys() <= {"sent", "unknown"}:
                assert time.monotonic() < deadline, (found, worker.log.read_text()[-3000:])
                await asyncio.sleep(0.1)
            assert worker.stop() == 0
        finally:
            worker.kill()
        assert found.get("unknown", 0) <= 4
        letters = [recipient for recipient, _ in sink.taken()]
    assert len(letters) == len(set(letters))
    assert len(letters) >= found["sent"]
    await assert_counters(db, campaign_id)
    assert [path.suffix for path in (tmp_path / journal.FOLDER).iterdir()] == []
