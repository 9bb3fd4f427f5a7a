"""A plan on paper: what a preset makes of a list that is not here yet. Needs neither database nor network."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from mailbase.sending.warmup import model as warmup_model
from mailbase.sending.warmup.keys import Chosen
from mailbase.sending.warmup.rules import TOTAL, UNKNOWN, Preset

DAY_ONE = datetime(2001, 1, 1, tzinfo=UTC)


def demand_of(recipients: int, mix: Mapping[str, float]) -> dict[str, int]:
    """Return letters by provider; what the shares leave over is to providers nobody named."""
    demand = {provider: int(recipients * share) for provider, share in mix.items()}
    demand[UNKNOWN] = demand.get(UNKNOWN, 0) + recipients - sum(demand.values())
    return {provider: n for provider, n in demand.items() if n > 0}


def lines(
    preset: Preset, recipients: int, mix: Mapping[str, float], schedule: list[int] | None = None
) -> Iterator[str]:
    """Yield the plan, a line a day, and when it is through."""
    chosen = Chosen(preset=preset, schedule=schedule)
    plan = warmup_model.play(chosen, demand_of(recipients, mix), DAY_ONE, name="plan")
    done = 0
    yield f"{'day':>4}  {'letters':>9}  {'cap':>9}  {'so far':>10}  by provider"
    for day in plan.days:
        done += day.count
        number = (day.date - DAY_ONE.date()).days + 1
        parts = ", ".join(
            f"{provider} {n:,}" for provider, n in sorted(day.by_provider.items(), key=lambda one: -one[1])
        )
        held = ["the total" if provider == TOTAL else provider for provider in day.limited_by]
        why = f"  (held by {', '.join(held)})" if held else ""
        cap = f"{day.cap:,}" if day.cap is not None else "none"
        yield f"{number:>4}  {day.count:>9,}  {cap:>9}  {done:>10,}  {parts}{why}"
    last = (plan.finishes_at.date() - DAY_ONE.date()).days + 1 if plan.finishes_at else None
    yield f"{done:,} of {recipients:,} letters planned by day; through on day {last}, if every day goes well."
