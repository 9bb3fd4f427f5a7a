"""Opens and clicks: a batch of requests becomes rows, counters and revised verdicts in one transaction.

Hit ─▶ locate (delivery, campaign, link) ─▶ burst over the clicks around it ─▶ signals, engagements, subscribers, counters
          └ None: no such delivery, link or tracking

Concurrent batches on one letter stay right: a letter with clicks in the batch is locked for the transaction before its
other clicks are read, and ``engagements`` are changed by addition, in key order. Counters come last.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters
from mailbase.signals import tally, verdicts
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


class _New(Struct):
    """A hit that counts, with its moment on PostgreSQL's clock."""

    hit: Hit
    place: Place
    at: datetime
    judgement: Judgement


class _Stored(Struct):
    """A click of an earlier batch that may turn out to be part of a burst."""

    id: int
    delivery_id: int
    place: Place
    click: Click
    verdict: verdicts.Verdict


LOCATE = """
SELECT hit.n, delivery.campaign_id, delivery.subscriber_id, link.url
FROM unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS hit (delivery_id, link, n)
JOIN deliveries AS delivery ON delivery.id = hit.delivery_id
JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
LEFT JOIN campaign_links AS link ON link.campaign_id = campaign.id AND link.n = hit.link
WHERE CASE WHEN hit.link = 0 THEN campaign.track_opens ELSE link.n IS NOT NULL END
"""


async def locate(db: Connection, hits: Sequence[Hit]) -> list[Place | None]:
    """Return each hit's place; None where its delivery or link does not exist or its campaign does not track."""
    rows = await db.fetch(LOCATE, [hit.delivery_id for hit in hits], [hit.link for hit in hits])
    places: list[Place | None] = [None] * len(hits)
    for n, campaign_id, subscriber_id, url in rows:
        places[n - 1] = Place(campaign_id, subscriber_id, url)
    return places


async def write(db: Connection, hits: Sequence[Hit], *, now: datetime, clock: float, slot: int) -> list[Place | None]:
    """Record a batch inside the caller's transaction and return what :func:`locate` says of each hit.

    Args:
        db: in a transaction.
        hits: any number, of any letters.
        now: PostgreSQL's time …
        clock: … when the callers' monotonic clock showed this; a hit happened that much before ``now`` as it is older.
        slot: this process's slot of the counters.
    """
    places = await locate(db, hits)
    new = [
        _New(hit, place, now - timedelta(seconds=clock - hit.arrived), hit.judgement)
        for hit, place in zip(hits, places, strict=True)
        if place is not None
    ]
    if not new:
        return places
    clicks = [one for one in new if one.hit.link]
    folded = await _fold(db, clicks) if clicks else []
    await _insert(db, new)
    if folded:
        await db.execute(REVISE, [old.id for old in folded])
    changes = await _engage(db, new, folded)
    await _mark_engaged(db, new, folded)
    for one in new:
        changes.append((one.place.campaign_id, tally.hour_key("click" if one.hit.link else "open", one.at), 1))
    await counters.add(db, changes, slot=slot)
    return places


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

REVISE = "UPDATE signals SET verdict = 'machine', reason = 'burst' WHERE id = ANY($1::bigint[])"


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


INSERT = """
INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, link, verdict, reason, ip, user_agent, at)
SELECT delivery_id, campaign_id, subscriber_id, CASE WHEN link = 0 THEN 'open' ELSE 'click' END, nullif(link, 0),
       verdict, reason, ip, user_agent, at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::inet[], $8::text[], $9::timestamptz[])
     AS signal (delivery_id, campaign_id, subscriber_id, link, verdict, reason, ip, user_agent, at)
"""


async def _insert(db: Connection, new: Sequence[_New]) -> None:
    rows = [
        (
            one.hit.delivery_id,
            one.place.campaign_id,
            one.place.subscriber_id,
            one.hit.link,
            one.judgement.verdict,
            one.judgement.reason,
            # Of an erased person only the number is kept.
            one.hit.address if one.place.subscriber_id else None,
            one.hit.user_agent if one.place.subscriber_id else None,
            one.at,
        )
        for one in new
    ]
    await db.execute(INSERT, *zip(*rows, strict=True))


ENGAGE = """
INSERT INTO engagements AS engagement (delivery_id, what, total, human, machine)
SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::integer[], $5::integer[])
ON CONFLICT (delivery_id, what) DO UPDATE SET
    total = engagement.total + excluded.total,
    human = engagement.human + excluded.human,
    machine = engagement.machine + excluded.machine
RETURNING delivery_id, what, total, human, machine
"""


async def _engage(db: Connection, new: Iterable[_New], folded: Iterable[_Stored]) -> list[tuple[int, str, int]]:
    """Add to the letters' engagements and return how far their campaigns' counters move."""
    campaigns: dict[int, int] = {}
    added: dict[tuple[int, int], Seen] = {}

    def add(delivery_id: int, whats: tuple[int, ...], seen: Seen) -> None:
        for what in whats:
            key = delivery_id, what
            added[key] = added[key].plus(seen) if key in added else seen

    for one in new:
        campaigns[one.hit.delivery_id] = one.place.campaign_id
        whats = (one.hit.link, tally.ANY_LINK) if one.hit.link else (tally.PIXEL,)
        add(one.hit.delivery_id, whats, tally.ONE[one.judgement.verdict])
    for old in folded:
        add(old.delivery_id, (old.click.link, tally.ANY_LINK), tally.FOLDED[old.verdict])
    # The order of rows is the order of locks.
    rows = [(*key, *added[key]) for key in sorted(added)]
    moved: list[tuple[int, str, int]] = []
    for delivery_id, what, *numbers in await db.fetch(ENGAGE, *zip(*rows, strict=True)):
        after = Seen(*numbers)
        before = after.minus(added[delivery_id, what])
        moved += [(campaigns[delivery_id], key, n) for key, n in tally.changes(what, before, after) if n]
    return moved


ENGAGED = """
UPDATE subscribers SET engaged_at = engaged.at
FROM unnest($1::bigint[], $2::timestamptz[]) AS engaged (subscriber_id, at)
WHERE subscribers.id = engaged.subscriber_id AND (engaged_at IS NULL OR engaged_at < engaged.at)
"""

HOLD = "SELECT id FROM subscribers WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"

# What a burst took back may have been the last sign of the person. Of somebody with more than a thousand signals only
# the latest are looked at: a script that hammers one letter must not slow everybody's answers.
UNENGAGED = """
UPDATE subscribers SET engaged_at = (
    SELECT max(at) FROM (
        SELECT at, verdict FROM signals WHERE subscriber_id = subscribers.id ORDER BY id DESC LIMIT 1000
    ) AS latest WHERE verdict = 'human'
)
WHERE id = ANY($1::bigint[])
"""


async def _mark_engaged(db: Connection, new: Iterable[_New], folded: Iterable[_Stored]) -> None:
    latest: dict[int, datetime] = {}
    for one in new:
        subscriber_id = one.place.subscriber_id
        if subscriber_id and one.judgement.verdict == "human":
            known = latest.get(subscriber_id)
            latest[subscriber_id] = one.at if known is None else max(known, one.at)
    if latest:
        await db.execute(ENGAGED, sorted(latest), [latest[subscriber_id] for subscriber_id in sorted(latest)])
    taken_back = {old.place.subscriber_id for old in folded if old.place.subscriber_id and old.verdict == "human"}
    if taken_back:
        # Held first: the update must see what whoever held them before has written.
        await db.execute(HOLD, sorted(taken_back))
        await db.execute(UNENGAGED, sorted(taken_back))
