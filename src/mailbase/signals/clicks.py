"""Clicks: a batch becomes rows, counters and revised verdicts.

click ─▶ locate ─▶ lock ─▶ the clicks around it, of its letter and of its address ─▶ verdicts ─▶ store, take back
            └ None: no such delivery or link

A click's verdict may hang on any other one, so clicks are judged one batch at a time in the whole installation: one lock, held
from the look at what is stored until the commit. ``engagements`` are changed by addition, in key order. Counters come last.
"""

from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.deliveries import counters
from mailbase.signals import tally, verdicts
from mailbase.signals.hits import Hit, Place, Written
from mailbase.signals.tally import Seen
from mailbase.signals.verdicts import Click, Judgement, Visit

LOCK_KEY: Final = 0x5163
REACH: Final = verdicts.RETURN_WINDOW + verdicts.SWEEP_WINDOW
"""How far around a click its letter's others can matter."""
MOST: Final = 200
"""Clicks of one letter looked at on each side. Those of a flood are machines already, and the nearest still show it."""


class _New(Struct):
    """A click that counts, with its moment on PostgreSQL's clock."""

    hit: Hit
    place: Place
    links: int
    at: datetime
    judgement: Judgement
    address: IPv4Address | IPv6Address | None
    source: Hashable


class _Stored(Struct):
    """A click of an earlier batch that may turn out to be a machine's."""

    id: int
    delivery_id: int
    place: Place
    link: int
    at: datetime
    verdict: verdicts.Verdict
    source: Hashable
    reason: str | None = None


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


LOCATE = """
SELECT hit.n, delivery.campaign_id, delivery.subscriber_id, link.url,
       (SELECT count(*) FROM campaign_links AS other WHERE other.campaign_id = delivery.campaign_id AND other.url <> '') AS links,
       CASE WHEN delivery.state IN ('queued', 'deferred') THEN coalesce($3, clock_timestamp()) ELSE delivery.sent_at END AS sent_at,
       (SELECT coalesce($3, clock_timestamp())) AS now, (SELECT pg_current_xact_id()::text) AS xid
FROM unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS hit (delivery_id, link, n)
JOIN deliveries AS delivery ON delivery.id = hit.delivery_id
JOIN campaign_links AS link ON link.campaign_id = delivery.campaign_id AND link.n = hit.link
"""


async def store(
    db: Connection, hits: Sequence[Hit], *, asked: float, slot: int, early: timedelta, now: datetime | None
) -> Written:
    """Record a batch inside the caller's transaction; hits are as old as ``asked`` says, counted from ``now``."""
    rows = await db.fetch(LOCATE, [hit.delivery_id for hit in hits], [hit.link for hit in hits], now)
    written = Written([None] * len(hits), rows[0]["xid"] if rows else None)
    new: list[_New] = []
    for n, campaign_id, subscriber_id, url, links, sent_at, moment, _ in rows:
        hit, place = hits[n - 1], Place(campaign_id, subscriber_id, url)
        written.places[n - 1] = place
        at = moment - timedelta(seconds=asked - hit.arrived)
        # Of an erased person only the number is kept.
        address = hit.address if subscriber_id is not None and hit.address and _telling(hit.address) else None
        source = (address, hit.user_agent) if address else None
        new.append(_New(hit, place, links, at, _timely(hit.judgement, at, sent_at, early), address, source))
    if not new:
        return written
    folded = await _judge(db, new)
    changes = await _store(db, new, folded)
    if folded:
        await _take_back(db, folded)
    changes += [(one.place.campaign_id, tally.hour_key(one.at), 1) for one in new]
    await counters.add(db, changes, slot=slot)
    return written


_telling = lru_cache(maxsize=4096)(verdicts.telling)


def _timely(judgement: Judgement, at: datetime, sent_at: datetime | None, early: timedelta) -> Judgement:
    if judgement.early is None or sent_at is None or not early:
        return judgement
    return Judgement(judgement.early, "early") if at - early < sent_at else judgement


# A writer that freezes must not hold everybody's clicks up.
LOCK = "SELECT pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '10s', true)"

AROUND_LETTERS = """
SELECT near.id, near.delivery_id, near.campaign_id, near.subscriber_id, near.link, near.at, near.verdict, near.ip, near.user_agent
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS letter (id, first, last)
CROSS JOIN LATERAL (
    (SELECT * FROM signals
     WHERE kind = 'click' AND delivery_id = letter.id AND at < letter.first AND at >= letter.first - $4::interval
     ORDER BY at DESC LIMIT $5)
    UNION ALL
    (SELECT * FROM signals WHERE kind = 'click' AND delivery_id = letter.id AND at BETWEEN letter.first AND letter.last)
    UNION ALL
    (SELECT * FROM signals
     WHERE kind = 'click' AND delivery_id = letter.id AND at > letter.last AND at <= letter.last + $4::interval
     ORDER BY at LIMIT $5)
) AS near
"""

AROUND_ADDRESSES = """
SELECT near.id, near.delivery_id, near.campaign_id, near.subscriber_id, near.link, near.at, near.verdict, near.ip, near.user_agent
FROM unnest($1::inet[], $2::timestamptz[], $3::timestamptz[]) AS address (ip, first, last)
CROSS JOIN LATERAL (
    (SELECT * FROM signals
     WHERE kind = 'click' AND ip = address.ip AND at < address.first AND at >= address.first - $4::interval
     ORDER BY at DESC LIMIT $5)
    UNION ALL
    (SELECT * FROM signals WHERE kind = 'click' AND ip = address.ip AND at BETWEEN address.first AND address.last)
    UNION ALL
    (SELECT * FROM signals
     WHERE kind = 'click' AND ip = address.ip AND at > address.last AND at <= address.last + $4::interval
     ORDER BY at LIMIT $5)
) AS near
"""


async def _judge(db: Connection, new: Sequence[_New]) -> list[_Stored]:
    """Judge the new clicks among those around them; return the stored ones that turn out to be a machine's."""
    await db.fetch(LOCK, LOCK_KEY)
    folded: dict[int, _Stored] = {}
    by_letter = _grouped(new, [one.hit.delivery_id for one in new])
    olds = await _around(db, AROUND_LETTERS, by_letter, key="delivery_id", reach=REACH, most=MOST)
    for delivery_id, ones in by_letter.items():
        old = olds.get(delivery_id, [])
        clicks = [Click(one.at, one.link, one.source) for one in old]
        clicks += [Click(one.at, one.hit.link, one.source) for one in ones]
        _convict(old, ones, verdicts.letter(clicks, ones[0].links), "burst", folded)
    by_address = _grouped(new, [one.address for one in new])
    by_address.pop(None, None)
    if by_address:
        olds = await _around(
            db, AROUND_ADDRESSES, by_address, key="ip", reach=verdicts.CROWD_WINDOW, most=verdicts.CROWD_FLOOD
        )
    for address, ones in by_address.items():
        old = olds.get(address, [])
        visits = [Visit(one.at, one.place.subscriber_id or 0) for one in old]
        visits += [Visit(one.at, one.place.subscriber_id or 0) for one in ones]
        _convict(old, ones, verdicts.crowd(visits), "crowd", folded)
    return list(folded.values())


def _grouped(new: Iterable[_New], keys: Iterable[Hashable]) -> dict[Any, list[_New]]:
    groups: dict[Any, list[_New]] = {}
    for one, key in zip(new, keys, strict=True):
        groups.setdefault(key, []).append(one)
    return groups


async def _around(
    db: Connection, query: str, groups: dict[Any, list[_New]], *, key: str, reach: timedelta, most: int
) -> dict[Any, list[_Stored]]:
    """Return the stored clicks around each group's, by the group's key."""
    firsts = [min(one.at for one in ones) for ones in groups.values()]
    lasts = [max(one.at for one in ones) for ones in groups.values()]
    found: dict[Any, list[_Stored]] = {}
    for row in await db.fetch(query, list(groups), firsts, lasts, reach, most):
        place = Place(row["campaign_id"], row["subscriber_id"], None)
        source = (row["ip"], row["user_agent"]) if row["ip"] and _telling(row["ip"]) else None
        old = _Stored(row["id"], row["delivery_id"], place, row["link"], row["at"], row["verdict"], source)
        found.setdefault(row[key], []).append(old)
    return found


def _convict(
    old: Sequence[_Stored], new: Sequence[_New], found: Sequence[bool], reason: str, folded: dict[int, _Stored]
) -> None:
    """Make machines of those found, but for those that are already."""
    for stored, machine in zip(old, found, strict=False):
        if machine and stored.verdict != "machine" and stored.id not in folded:
            stored.reason = reason
            folded[stored.id] = stored
    for one, machine in zip(new, found[len(old) :], strict=True):
        if machine and one.judgement.verdict != "machine":
            one.judgement = Judgement("machine", reason)


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
    INSERT INTO engaged AS reader (subscriber_id, at, clicked_at)
    SELECT subscriber_id, at, at FROM jsonb_to_recordset($2) AS person (subscriber_id bigint, at timestamptz)
    ON CONFLICT (subscriber_id) DO UPDATE
    SET at = greatest(reader.at, excluded.at), clicked_at = greatest(reader.clicked_at, excluded.clicked_at)
    WHERE reader.clicked_at IS NULL OR reader.clicked_at < excluded.clicked_at
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
    campaigns = {one.delivery_id: one.place.campaign_id for one in folded}
    campaigns |= {one.hit.delivery_id: one.place.campaign_id for one in new}
    moved: list[tuple[int, str, int]] = []
    for delivery_id, what, *numbers in await rows:
        after = Seen(*numbers)
        before = after.minus(added[delivery_id, what])
        moved += [(campaigns[delivery_id], key, n) for key, n in tally.changes(what, before, after) if n]
    return moved


def _row(one: _New) -> _Signal:
    hit, place = one.hit, one.place
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
    """Return when each reader was last seen to click; None for those whose click is taken back, who are only held."""
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
    gains += [(old.delivery_id, old.link, tally.FOLDED[old.verdict]) for old in folded]
    for delivery_id, link, seen in gains:
        for what in (link, tally.ANY_LINK):
            key = delivery_id, what
            added[key] = added[key].plus(seen) if key in added else seen
    return added


REVISE = """
UPDATE signals SET verdict = 'machine', reason = revised.reason
FROM unnest($1::bigint[], $2::text[]) AS revised (id, reason) WHERE signals.id = revised.id
"""

# What was taken back may have been the last sign of the person. Of somebody with more than a thousand signals only the latest
# are looked at: a script that hammers one letter must not slow everybody's answers.
UNENGAGED = """
UPDATE engaged SET (at, clicked_at) = (
    SELECT max(at), max(at) FILTER (WHERE kind = 'click') FROM (
        SELECT at, kind, verdict FROM signals WHERE subscriber_id = engaged.subscriber_id ORDER BY id DESC LIMIT 1000
    ) AS latest WHERE verdict = 'human'
)
WHERE subscriber_id = ANY($1::bigint[])
"""


async def _take_back(db: Connection, folded: Sequence[_Stored]) -> None:
    """Revise the verdicts of clicks that turned out to be a machine's, and what they said of their readers."""
    await db.execute(REVISE, [old.id for old in folded], [old.reason for old in folded])
    # They are held since the rows were stored: this sees what whoever held them before has written.
    if readers := _taken_back(folded):
        await db.execute(UNENGAGED, sorted(readers))
