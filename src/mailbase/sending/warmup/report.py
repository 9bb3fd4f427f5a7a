"""A plan on paper: what a preset makes of a list that is not here yet. Needs neither database nor network."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from mailbase.sending.warmup import model as warmup_model
from mailbase.sending.warmup.keys import Chosen
from mailbase.sending.warmup.names import called
from mailbase.sending.warmup.rules import TOTAL, UNKNOWN, Preset

DAY_ONE: Final = datetime(2001, 1, 1, tzinfo=UTC)
MOST: Final = 6
"""So many providers are named."""


def demand_of(recipients: int, mix: Mapping[str, float]) -> dict[str, int]:
    """Return letters by provider; what the shares leave over is to providers nobody named."""
    demand: dict[str, int] = {}
    for name, share in mix.items():
        provider = called(name)
        demand[provider] = demand.get(provider, 0) + int(recipients * share)
    demand[UNKNOWN] = demand.get(UNKNOWN, 0) + recipients - sum(demand.values())
    return {provider: n for provider, n in demand.items() if n > 0}


def lines(preset: Preset, demand: Mapping[str, int], schedule: list[int] | None = None) -> Iterator[str]:
    """Yield the plan, a line a day, and when it is through."""
    chosen = Chosen(preset=preset, schedule=schedule)
    plan = warmup_model.play(chosen, demand, DAY_ONE, name="plan")
    done, recipients = 0, sum(demand.values())
    yield f"{'day':>4}  {'letters':>9}  {'cap':>9}  {'so far':>10}  by provider"
    for day in plan.days:
        done += day.count
        number = (day.date - DAY_ONE.date()).days + 1
        held = _named("the total" if provider == TOTAL else provider for provider in day.limited_by)
        why = f"  (held by {held})" if held else ""
        cap = f"{day.cap:,}" if day.cap is not None else "none"
        yield f"{number:>4}  {day.count:>9,}  {cap:>9}  {done:>10,}  {shared(day.by_provider)}{why}"
    last = (plan.finishes_at.date() - DAY_ONE.date()).days + 1 if plan.finishes_at else None
    yield f"{done:,} of {recipients:,} letters planned by day; through on day {last:,}, if every day goes well."


def shared(letters: Mapping[str, int]) -> str:
    """Return letters by provider in words, the largest first; of many the small ones together."""
    ordered = sorted(letters.items(), key=lambda one: (-one[1], one[0]))
    few, others = (ordered, []) if len(ordered) == MOST + 1 else (ordered[:MOST], ordered[MOST:])
    words = [f"{provider} {n:,}" for provider, n in few]
    if others:
        words.append(f"{len(others):,} others {sum(n for _, n in others):,}")
    return ", ".join(words)


def _named(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found if len(found) <= MOST + 1 else [*found[:MOST], f"{len(found) - MOST:,} others"])
