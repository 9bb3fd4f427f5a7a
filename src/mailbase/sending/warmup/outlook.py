"""The outlook of a domain: the days to come as they would go for so many letters by provider, from where its warm-up stands."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from mailbase.db import Connection
from mailbase.sending.warmup import model as warmup_model
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup.keys import Key
from mailbase.sending.warmup.model import Plan, PlannedDay
from mailbase.sending.warmup.rules import TOTAL
from mailbase.sending.warmup.ways import ways

TAKEN = """
SELECT provider, bucket, taken FROM allowances
WHERE domain_id = $1 AND egress = $2 AND provider = ANY($3::text[]) AND bucket > $4::timestamptz - interval '25 hours' AND taken > 0
ORDER BY bucket
"""


async def outlook(
    db: Connection,
    domain_id: int,
    demand: Mapping[str, int],
    start: datetime,
    *,
    to_outbox: bool,
    grow: bool,
    spread: bool = True,
    gone: Mapping[str, int] | None = None,
) -> Plan:
    """Play ``demand`` from ``start`` on, over the domain's ways out by their weights. Without ``grow`` at today's caps.

    ``gone``: how many letters of the campaign each provider had already.

    Without ``spread`` a day's cap may leave at once, whatever the hour allows, and again at the same time of the next.
    """
    chosen = await warmup_take.look(db, domain_id, to_outbox=to_outbox)
    if not spread and chosen.preset != "fast":
        chosen = msgspec.structs.replace(chosen, rules=msgspec.structs.replace(chosen.rules, active_hours=1))
    weights = await ways(db, domain_id, to_outbox=to_outbox)
    letters = warmup_model.gathered(demand)
    plans: list[Plan] = []
    before, whole = 0, sum(weights.values())
    for egress, weight in weights.items():

        def of(n: int, low: int = before, high: int = before + weight) -> int:
            return n * high // whole - n * low // whole

        before += weight
        part = {provider: of(n) for provider, n in letters.items()}
        found, _, _ = await warmup_take.keys(db, domain_id, egress, list(part), now=start)
        keys = {provider: _empty(key) for provider, key in found.items()}
        rows = await db.fetch(TAKEN, domain_id, egress, [TOTAL, *part], start)
        taken = [(row["provider"], row["bucket"], row["taken"]) for row in rows]
        # Weeks of ten minutes each: a thread keeps other requests from waiting.
        plans.append(
            await asyncio.to_thread(
                warmup_model.play, chosen, part, start, name=f"{domain_id} {egress}", keys=keys, taken=taken,
                gone={provider: of(n) for provider, n in (gone or {}).items()}, grow=grow,
                counts=warmup_model.DAY if spread else timedelta(days=1),
            )
        )  # fmt: skip
    return plans[0] if len(plans) == 1 else _merged(plans)


def _empty(key: Key) -> Key:
    """Return a key with nothing counted yet: the model counts what was taken by itself."""
    return msgspec.structs.replace(key, day=0, hour=0, bucket=0, cold=0, everywhere=0)


def _merged(plans: Sequence[Plan]) -> Plan:
    days: dict[date, PlannedDay] = {}
    for day in sorted((day for plan in plans for day in plan.days), key=lambda day: day.date):
        known = days.get(day.date)
        if known is None:
            days[day.date] = day
            continue
        names = sorted(known.by_provider.keys() | day.by_provider.keys())
        days[day.date] = PlannedDay(
            day.date,
            known.count + day.count,
            None if known.cap is None or day.cap is None else known.cap + day.cap,
            {name: known.by_provider.get(name, 0) + day.by_provider.get(name, 0) for name in names},
            sorted({*known.limited_by, *day.limited_by}),
        )
    ends = [plan.finishes_at for plan in plans]
    return Plan(list(days.values()), None if None in ends else max(end for end in ends if end is not None))
