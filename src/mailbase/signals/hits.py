"""Opens and clicks: a batch of requests becomes rows, counters and revised verdicts in one transaction.

Hit ─▶ open ──▶ opens.store ──────────────────────────────────▶ signals, engagements, subscribers, counters
   └─▶ click ─▶ locate ─▶ burst over the clicks around it ─────▶ the same
                  └ None: no such delivery, link or tracking

Concurrent batches on one letter stay right: a letter with clicks in the batch is locked for the transaction before its
other clicks are read, and ``engagements`` are changed by addition, in key order. Counters come last.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters
from mailbase.signals import opens, tally, verdicts
from mailbase.signals.opens import Open
from mailbase.signals.tally import Seen
from mailbase.signals.verdicts import Click, Judgement

LOCK_SPACE = 0x5163  # the class of the advisory locks on deliveries


class Hit(Struct):
    """One request for a pixel (``link`` 0) or a link (from 1), judged by itself, on the caller's monotonic clock."""

    delivery_id: int
    link: int
    judgement: Judgement
    address: IPv4Address | IPv6Address | None
    user_agent: str
    arrived: float


class Place(Struct):
    """Where a hit belongs: its letter and, for a click, the stored URL (which may hold expressions)."""

    campaign_id: int
    subscriber_id: int | None
    url: str | None


class Written(Struct):
    """What became of a batch: each hit's place, None where its delivery or link does not exist or is not tracked.

    ``xid`` names the transaction, so that its commit can be asked for later; None: nothing was written.
    """

    places: list[Place | None]
    xid: str | None


class _New(Struct):
    """A click that counts, with its moment on PostgreSQL's clock."""

    hit: Hit
    place: Place
    at: datetime
    judgement: Judgement


class _Signal(Struct):
    delivery_id: int
    campaign_id: int
    subscriber_id: int | None
    link: int
    verdict: verdicts.Verdict
    reason: str | None
    ip: str | None
    user_agent: str | None
    at: datetime


class _Engaged(Struct):
    subscriber_id: int
    at: datetime | None


class _Engagement(Struct):
    delivery_id: int
    what: int
    total: int
    human: int
    machine: int


class _Stored(Struct):
    """A click of an earlier batch that may turn out to be part of a burst."""

    id: int
    delivery_id: int
    place: Place
    click: Click
    verdict: verdicts.Verdict


async def write(
    db: Connection, hits: Sequence[Hit], *, clock: Callable[[], float], slot: int, now: datetime | None = None
) -> Written:
    """Record a batch inside the caller's transaction.

    Args:
        db: in a transaction.
        hits: opens or clicks, one or more, of any letters. Both in one transaction would hold locks in two orders.
        clock: the monotonic clock the hits' arrivals were read from; a hit happened as long before ``now`` as it is old.
        slot: this process's slot of the counters.
        now: PostgreSQL's time unless given.
    """
    write_all = _write_clicks if hits[0].link else _write_opens
    return await write_all(db, hits, clock(), slot, now)


async def _write_opens(db: Connection, hits: Sequence[Hit], asked: float, slot: int, now: datetime | None) -> Written:
    stored = await opens.store(db, [_open(n, hit, asked) for n, hit in enumerate(hits)], slot=slot, now=now)
    written = Written([None] * len(hits), stored.xid)
    for n, campaign_id, subscriber_id in stored.found:
        written.places[n] = Place(campaign_id, subscriber_id, None)
    return written


def _open(n: int, hit: Hit, asked: float) -> Open:
    verdict, reason = hit.judgement
    ip = str(hit.address) if hit.address else None
    return Open(n, hit.delivery_id, verdict, reason, ip, hit.user_agent, asked - hit.arrived)


LOCATE = """
SELECT hit.n, delivery.campaign_id, delivery.subscriber_id, link.url,
       (SELECT coalesce($3, clock_timestamp())) AS now, (SELECT pg_current_xact_id()::text) AS xid
FROM unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS hit (delivery_id, link, n)
JOIN deliveries AS delivery ON delivery.id = hit.delivery_id
JOIN campaign_links AS link ON link.campaign_id = delivery.campaign_id AND link.n = hit.link
"""


async def _write_clicks(db: Connection, hits: Sequence[Hit], asked: float, slot: int, now: datetime | None) -> Written:
    rows = await db.fetch(LOCATE, [hit.delivery_id for hit in hits], [hit.link for hit in hits], now)
    written = Written([None] * len(hits), rows[0]["xid"] if rows else None)
    clicks: list[_New] = []
    for n, campaign_id, subscriber_id, url, moment, _ in rows:
        hit, place = hits[n - 1], Place(campaign_id, subscriber_id, url)
        written.places[n - 1] = place
        clicks.append(_New(hit, place, moment - timedelta(seconds=asked - hit.arrived), hit.judgement))
    if not clicks:
        return written
    folded = await _fold(db, clicks)
    changes = await _store(db, clicks, folded)
    if folded:
        await _take_back(db, folded)
    changes += [(one.place.campaign_id, tally.hour_key(one.at), 1) for one in clicks]
    await counters.add(db, changes, slot=slot)
    return written


LOCK = "SELECT pg_advisory_xact_lock($1, key) FROM unnest($2::integer[]) AS key"

# At most `limit` on each side of each new click: when there are more within the window, they were a flood already,
# so the ones not looked at are machines already and the flood is still seen in the ones that are.
AROUND = """
SELECT DISTINCT near.id, near.delivery_id, near.campaign_id, near.subscriber_id, near.link, near.at, near.verdict
FROM unnest($1::bigint[], $2::timestamptz[]) AS click (delivery_id, at)
CROSS JOIN LATERAL (
    (SELECT * FROM signals
     WHERE kind = 'click' AND delivery_id = click.delivery_id AND at < click.at AND at >= click.at - $3::interval
     ORDER BY at DESC LIMIT $4)
    UNION ALL
    (SELECT * FROM signals
     WHERE kind = 'click' AND delivery_id = click.delivery_id AND at >= click.at AND at <= click.at + $3::interval
     ORDER BY at LIMIT $4)
) AS near
"""


async def _fold(db: Connection, clicks: Sequence[_New]) -> list[_Stored]:
    """Judge the new clicks as part of their bursts; return the stored ones that turn out to be machines."""
    letters = sorted({one.hit.delivery_id & 0x7FFFFFFF for one in clicks})
    await db.execute(LOCK, LOCK_SPACE, letters)
    rows = await db.fetch(
        AROUND,
        [one.hit.delivery_id for one in clicks],
        [one.at for one in clicks],
        verdicts.BURST_WINDOW,
        verdicts.FLOOD,
    )
    stored: dict[int, list[_Stored]] = {}
    for row in rows:
        place = Place(row["campaign_id"], row["subscriber_id"], None)
        click = Click(row["at"], row["link"])
        old = _Stored(row["id"], row["delivery_id"], place, click, row["verdict"])
        stored.setdefault(old.delivery_id, []).append(old)
    fresh: dict[int, list[_New]] = {}
    for one in clicks:
        fresh.setdefault(one.hit.delivery_id, []).append(one)
    folded: list[_Stored] = []
    for delivery_id, ones in fresh.items():
        olds = stored.get(delivery_id, [])
        in_burst = verdicts.burst([old.click for old in olds] + [Click(one.at, one.hit.link) for one in ones])
        folded += [old for old, found in zip(olds, in_burst, strict=False) if found and old.verdict != "machine"]
        for one, found in zip(ones, in_burst[len(olds) :], strict=True):
            if found and one.judgement.verdict != "machine":
                one.judgement = Judgement("machine", "burst")
    return folded


# One statement, because a round trip costs more than the rows; JSON, because arrays are encoded element by element.
# People and letters are sorted, and the count makes PostgreSQL take the people first: the order of rows is the order of locks.
STORE = """
WITH signal AS (
    INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, link, verdict, reason, ip, user_agent, at)
    SELECT delivery_id, campaign_id, subscriber_id, 'click', link,
           verdict, reason, ip, user_agent, at
    FROM jsonb_to_recordset($1) AS new (delivery_id bigint, campaign_id bigint, subscriber_id bigint, link integer,
         verdict text, reason text, ip inet, user_agent text, at timestamptz)
), engaged AS (
    INSERT INTO engaged AS reader (subscriber_id, at)
    SELECT subscriber_id, at FROM jsonb_to_recordset($2) AS person (subscriber_id bigint, at timestamptz)
    ON CONFLICT (subscriber_id) DO UPDATE SET at = excluded.at WHERE reader.at IS NULL OR reader.at < excluded.at
    RETURNING 1
)
INSERT INTO engagements AS engagement (delivery_id, what, total, human, machine)
SELECT * FROM jsonb_to_recordset($3) AS gain (delivery_id bigint, what smallint, total integer, human integer, machine integer)
WHERE (SELECT count(*) FROM engaged) >= 0
ON CONFLICT (delivery_id, what) DO UPDATE SET
    total = engagement.total + excluded.total,
    human = engagement.human + excluded.human,
    machine = engagement.machine + excluded.machine
RETURNING delivery_id, what, total, human, machine
"""


async def _store(db: Connection, new: Sequence[_New], folded: Sequence[_Stored]) -> list[tuple[int, str, int]]:
    """Write the signals, the readers' engagement and the letters'; return how far the campaigns' counters move."""
    added = _added(new, folded)
    rows = db.fetch(
        STORE,
        [_row(one) for one in new],
        [_Engaged(reader, at) for reader, at in sorted(_engaged(new, folded).items())],
        [_Engagement(*key, *added[key]) for key in sorted(added)],
    )
    campaigns = {one.hit.delivery_id: one.place.campaign_id for one in new}
    moved: list[tuple[int, str, int]] = []
    for delivery_id, what, *numbers in await rows:
        after = Seen(*numbers)
        before = after.minus(added[delivery_id, what])
        moved += [(campaigns[delivery_id], key, n) for key, n in tally.changes(what, before, after) if n]
    return moved


def _row(one: _New) -> _Signal:
    hit, place = one.hit, one.place
    # Of an erased person only the number is kept.
    known = place.subscriber_id is not None
    return _Signal(
        hit.delivery_id,
        place.campaign_id,
        place.subscriber_id,
        hit.link,
        one.judgement.verdict,
        one.judgement.reason,
        str(hit.address) if known and hit.address else None,
        hit.user_agent if known else None,
        one.at,
    )


def _engaged(new: Iterable[_New], folded: Iterable[_Stored]) -> dict[int, datetime | None]:
    """Return when each reader was last seen to be a person; None for those a burst takes back, who are only held."""
    latest: dict[int, datetime | None] = dict.fromkeys(_taken_back(folded))
    for one in new:
        reader = one.place.subscriber_id
        if reader is not None and one.judgement.verdict == "human":
            before = latest.get(reader)
            latest[reader] = one.at if before is None else max(before, one.at)
    return latest


def _taken_back(folded: Iterable[_Stored]) -> set[int]:
    return {old.place.subscriber_id for old in folded if old.place.subscriber_id and old.verdict == "human"}


def _added(new: Iterable[_New], folded: Iterable[_Stored]) -> dict[tuple[int, int], Seen]:
    """Return what each letter's engagements gain, by (delivery, what)."""
    added: dict[tuple[int, int], Seen] = {}
    gains = [(one.hit.delivery_id, one.hit.link, tally.ONE[one.judgement.verdict]) for one in new]
    gains += [(old.delivery_id, old.click.link, tally.FOLDED[old.verdict]) for old in folded]
    for delivery_id, link, seen in gains:
        for what in (link, tally.ANY_LINK):
            key = delivery_id, what
            added[key] = added[key].plus(seen) if key in added else seen
    return added


REVISE = "UPDATE signals SET verdict = 'machine', reason = 'burst' WHERE id = ANY($1::bigint[])"

# What a burst took back may have been the last sign of the person. Of somebody with more than a thousand signals only
# the latest are looked at: a script that hammers one letter must not slow everybody's answers.
UNENGAGED = """
UPDATE engaged SET at = (
    SELECT max(at) FROM (
        SELECT at, verdict FROM signals WHERE subscriber_id = engaged.subscriber_id ORDER BY id DESC LIMIT 1000
    ) AS latest WHERE verdict = 'human'
)
WHERE subscriber_id = ANY($1::bigint[])
"""


async def _take_back(db: Connection, folded: Iterable[_Stored]) -> None:
    """Revise the verdicts of clicks that turned out to be a machine's, and what they said of their readers."""
    await db.execute(REVISE, [old.id for old in folded])
    # They are held since the rows were stored: this sees what whoever held them before has written.
    if readers := _taken_back(folded):
        await db.execute(UNENGAGED, sorted(readers))
