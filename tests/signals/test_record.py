"""The recorder: whoever was answered is in the tables, once."""

import asyncio
import contextlib
import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from mailbase import db as database
from mailbase.config import Settings
from mailbase.errors import Unavailable
from mailbase.signals.record import early, recorder
from signals.signals_kit import counted, hit, make_campaign, recounted


def now_hit(letter, link=0):
    """Return a hit of this moment."""
    return hit(letter, link, at=time.monotonic())


async def until(check, seconds=10):
    """Poll until the check holds."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_answers_are_rows(pool, db):
    """A thousand hits at once are a thousand rows and the counters of as many."""
    campaign_id, letters = await make_campaign(db, letters=50)
    async with recorder(pool) as made:
        places = await asyncio.gather(*(made.record(now_hit(letters[n % 50])) for n in range(1000)))
    assert {place.campaign_id for place in places} == {campaign_id}
    assert (await counted(db, campaign_id))["open.total"] == await db.fetchval("SELECT count(*) FROM signals") == 1000


async def test_slow_database(pool, db):
    """While the database is slow nobody is answered; once it goes on, everybody is, and all are counted."""
    campaign_id, letters = await make_campaign(db)
    async with recorder(pool) as made:
        async with db.transaction():
            await db.execute("LOCK TABLE signals IN SHARE MODE")
            waiting = [asyncio.create_task(made.record(now_hit(letters[n % 3]))) for n in range(60)]
            done, _ = await asyncio.wait(waiting, timeout=0.3)
            assert not done
        await asyncio.gather(*waiting)
    assert (await counted(db, campaign_id))["open.total"] == 60


async def test_patience(pool, db):
    """A database that stays away for longer than the patience is an honest failure, not a lost signal."""
    _, (letter, *_) = await make_campaign(db)
    async with recorder(pool, patience=0.2) as made, db.transaction():
        await db.execute("LOCK TABLE signals IN SHARE MODE")
        with pytest.raises(Unavailable):
            await made.record(now_hit(letter))


async def test_killed_connections(pool, db):
    """Connections that die in the middle cost time only: every hit is answered and counted exactly once."""
    campaign_id, letters = await make_campaign(db, letters=20)

    async def kill():
        for _ in range(6):
            await asyncio.sleep(0.15)
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    answered = 0
    async with recorder(pool) as made, asyncio.TaskGroup() as group:
        killer = group.create_task(kill())
        while not killer.done():
            await asyncio.gather(*(made.record(now_hit(letter, n)) for letter in letters for n in (0, 1)))
            answered += 40
    assert await db.fetchval("SELECT count(*) FROM signals") == answered
    assert await counted(db, campaign_id) == await recounted(db, campaign_id)


@contextlib.asynccontextmanager
async def losing(url, times, last):
    """Run a proxy to the database that lets the first commits (whatever holds ``last``) through and drops the connection instead of the answer."""
    folder = parse_qs(urlsplit(url).query)["host"][0]
    left = [times]

    async def pump(reader, writer, see=None):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if see:
                    see(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        there, back = await asyncio.open_unix_connection(
            f"{folder}/.s.PGSQL.{parse_qs(urlsplit(url).query).get('port', ['5432'])[0]}"
        )
        lose = asyncio.Event()

        def see(data):
            if left[0] and last in data:
                left[0] -= 1
                lose.set()

        async def answers():
            with contextlib.suppress(OSError):
                while data := await there.read(65_536):
                    if lose.is_set():
                        break
                    writer.write(data)
            writer.close()
            back.close()

        await asyncio.gather(pump(reader, back, see), answers())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield re.sub(r"@[^/]*/", f"@127.0.0.1:{port}/", urlsplit(url)._replace(query="").geturl()), left
    finally:
        server.close()


@pytest.mark.parametrize(
    ("link", "last", "key"),
    [(0, b'"user_agent":', "open.total"), (1, b"COMMIT;", "click.total")],
    ids=["opens", "clicks"],
)
async def test_lost_commit_answer(database_url, db, link, last, key):
    """A commit that went through without its answer is found out, not repeated, and everybody is told where the hit belongs."""
    campaign_id, letters = await make_campaign(db, letters=5)
    async with (
        losing(database_url, 3, last) as (url, left),
        database.open_pool(url, size=2) as pool,
        recorder(pool) as made,
    ):
        for _ in range(5):
            places = await asyncio.gather(*(made.record(now_hit(letter, link)) for letter in letters))
            assert [place.campaign_id for place in places] == [campaign_id] * 5
    assert left == [0]
    assert (await counted(db, campaign_id))[key] == await db.fetchval("SELECT count(*) FROM signals") == 25


async def test_poison(pool, db):
    """A hit that cannot be stored fails alone."""
    campaign_id, letters = await make_campaign(db, letters=7)
    async with recorder(pool) as made:
        bad = now_hit(letters[0])
        bad.user_agent = "a\0b"
        answers = await asyncio.gather(
            *(made.record(one) for one in [*map(now_hit, letters), bad, *map(now_hit, letters)]), return_exceptions=True
        )
    assert [type(answer).__name__ for answer in answers] == ["Place"] * 7 + ["Unavailable"] + ["Place"] * 7
    assert (await counted(db, campaign_id))["open.total"] == 14


async def test_close_drains(pool, db):
    """What waits when the process is told to stop is committed before it does."""
    campaign_id, letters = await make_campaign(db, letters=10)
    async with recorder(pool) as made:
        waiting = [asyncio.create_task(made.record(now_hit(letter))) for letter in letters]
        await asyncio.sleep(0)
    assert all(task.done() and task.result() for task in waiting)
    with pytest.raises(Unavailable):
        await made.record(now_hit(letters[0]))
    assert (await counted(db, campaign_id))["open.total"] == 10


@pytest.mark.parametrize(
    ("smtp", "seconds"),
    [
        ("", 0),
        ("smtp://127.0.0.1:2525?tls=none", 0),
        ("smtp://localhost?tls=none", 0),
        ("smtp://u:p@relay.example.com", 5),
        ("smtp://u:p@203.0.113.7", 5),
    ],
)
def test_early(tmp_path, smtp, seconds):
    """A letter that left counts as delivered only where it left this machine."""
    settings = Settings.from_env({"MAILBASE_DATA_DIR": str(tmp_path), "MAILBASE_SMTP_URL": smtp})
    assert early(settings).total_seconds() == seconds
