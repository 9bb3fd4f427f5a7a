"""Turns: which provider's letters of a campaign go next where caps hold most of them. The one that is furthest behind.

How far each has come is a row, moved in the mark and the record: so it is the same for every worker, whoever came first. Letters
go out one by one to the provider of which the smallest share has gone, among those with room; one that its own cap held back
catches up as soon as it may. A letter that comes back to the queue is one more to send: so a provider that refuses for now keeps
its place in turn, and takes nobody else's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import heapify, heappop, heapreplace
from typing import Final, NamedTuple

from mailbase.db import Connection

HALVINGS: Final = 50


class Turn(NamedTuple):
    """How many letters a campaign has for a provider, those that came back counted again, and how many of them are gone."""

    letters: int
    gone: int = 0


def even(limit: int, turns: Mapping[str, Turn], lefts: Mapping[str, int]) -> dict[str, int]:
    """Share out ``limit`` letters, none more than is left for a provider, each to the one furthest behind."""
    most = {name: lefts[name] for name in turns if lefts[name] > 0}
    if sum(most.values()) <= limit:
        return most
    # Whichever is less work.
    given = _level(limit, turns, most) if limit > HALVINGS * len(most) else dict.fromkeys(most, 0)
    rest = limit - sum(given.values())
    # Half a letter more than have gone: so the small ones come neither first nor last.
    behind = [(_share(turns[name], given[name]), name) for name, n in most.items() if given[name] < n]
    heapify(behind)
    while rest > 0 and behind:
        name = behind[0][1]
        given[name] += 1
        rest -= 1
        if given[name] < most[name]:
            heapreplace(behind, (_share(turns[name], given[name]), name))
        else:
            heappop(behind)
    return {name: n for name, n in given.items() if n}


def _share(turn: Turn, given: int) -> float:
    return (turn.gone + given + 0.5) / max(turn.letters, 1)


def _level(limit: int, turns: Mapping[str, Turn], most: Mapping[str, int]) -> dict[str, int]:
    """Return how many each may have for all to come equally far, no more than ``limit`` in all."""

    def up_to(share: float) -> dict[str, int]:
        return {
            name: max(min(int(share * max(turns[name].letters, 1) + 0.5) - turns[name].gone, n), 0)
            for name, n in most.items()
        }

    low, high = 0.0, max(_share(turns[name], n) for name, n in most.items())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if sum(up_to(middle).values()) <= limit:
            low = middle
        else:
            high = middle
    return up_to(low)


# Only where something waits: one ordered look into each of the queue's indexes a provider.
LOOK = """
SELECT lane.provider, lane.letters + COALESCE(turn.again, 0) AS letters, COALESCE(turn.gone, 0) AS gone
FROM campaign_lanes AS lane
LEFT JOIN campaign_turns AS turn ON turn.campaign_id = lane.campaign_id AND turn.provider = lane.provider
WHERE lane.campaign_id = $1 AND lane.provider = ANY ($2::text[]) AND COALESCE(
    (SELECT true FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'queued' ORDER BY rank LIMIT 1),
    (SELECT true FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at <= COALESCE($3, now())
     ORDER BY due_at LIMIT 1)
)
"""


async def look(
    db: Connection, campaign_id: int, providers: Sequence[str], *, now: datetime | None = None
) -> dict[str, Turn]:
    """Return how far each of these providers has come, if letters wait for it."""
    rows = await db.fetch(LOOK, campaign_id, providers, now)
    return {row["provider"]: Turn(row["letters"], row["gone"]) for row in rows}


ALL = """
SELECT lane.provider, lane.letters + COALESCE(turn.again, 0) AS letters, COALESCE(turn.gone, 0) AS gone
FROM campaign_lanes AS lane
LEFT JOIN campaign_turns AS turn ON turn.campaign_id = lane.campaign_id AND turn.provider = lane.provider
WHERE lane.campaign_id = $1 ORDER BY lane.provider
"""


async def of_campaign(db: Connection, campaign_id: int) -> dict[str, Turn]:
    """Return how far each provider of a campaign has come; nothing is gone where nothing is held."""
    return {row["provider"]: Turn(row["letters"], row["gone"]) for row in await db.fetch(ALL, campaign_id)}


MOVE = """
INSERT INTO campaign_turns AS turn (campaign_id, provider, gone, again)
SELECT campaign_id, provider, gone, again FROM unnest($1::bigint[], $2::text[], $3::int[], $4::int[]) AS moved (campaign_id, provider, gone, again)
ON CONFLICT (campaign_id, provider) DO UPDATE SET gone = turn.gone + excluded.gone, again = turn.again + excluded.again
"""


async def gone(db: Connection, letters: Counter[tuple[int, str]]) -> None:
    """Count letters of (campaign, provider) that leave the queue, in the caller's transaction.

    After the allowances and before the counters: that is the order of locks.
    """
    await _move(db, [(*key, n, 0) for key, n in letters.items()])


async def came_back(db: Connection, letters: Counter[tuple[int, str]]) -> None:
    """Count letters of (campaign, provider) that are in the queue again; as :func:`gone`."""
    await _move(db, [(*key, 0, n) for key, n in letters.items()])


async def _move(db: Connection, rows: list[tuple[int, str, int, int]]) -> None:
    if rows:
        await db.execute(MOVE, *(list(column) for column in zip(*sorted(rows), strict=True)))
