"""The count after the storm: the table against the sink, the counters against a recount, each kill against its bound."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from chaos.rough_sink import BY_LETTER, Taken
from chaos.world import OPEN, Broken, Struck, World
from mailbase.campaigns.recount import recount

TAKEN = {"kept", "last", "mute"}
NONE = {"term", "redis"}
"""What leaves nothing in doubt."""
BOUNDED = {"kill", "supervisor"} | NONE
"""After a dead database or a freeze letters are in doubt until their answer is recorded after all: what stays so is counted at the end."""

LETTERS = """
SELECT subscriber.email, delivery.state::text, delivery.reason FROM subscribers AS subscriber
LEFT JOIN deliveries AS delivery ON delivery.subscriber_id = subscriber.id AND delivery.campaign_id = $1
WHERE subscriber.domain = $2
"""

COUNTERS = """
SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 GROUP BY key HAVING sum(n) <> 0
"""


class Count:
    """One campaign's letters as the table has them, and as the sink does."""

    def __init__(self, name: str, rows: Sequence, dots: dict[str, list[Taken]]) -> None:
        self.name = name
        self.rows = len(rows)
        self.ends = {row["email"]: (row["state"], row["reason"]) for row in rows}
        self.states = Counter(state for state, _ in self.ends.values())
        self.dots = {to: dots.get(to, []) for to in self.ends}
        self.taken = {to: [dot for dot in all_ if dot.what in TAKEN] for to, all_ in self.dots.items()}
        self.doubled = [to for to, all_ in self.taken.items() if len(all_) > 1]
        self.lost = [to for to, (state, _) in self.ends.items() if state == "sent" and not self.taken[to]]
        self.died = [to for to, end in self.ends.items() if end == ("unknown", "worker_died")]
        self.silent = [to for to, end in self.ends.items() if end == ("unknown", "no_reply")]

    def wrong(self) -> list[str]:
        """Return the promises that were not kept."""
        found = {
            f"not one final state each: {dict(self.states)}": list(OPEN | {None} & self.states.keys())
            if self.rows != len(self.ends) or None in self.states or OPEN & self.states.keys()
            else [],
            "sent, but the sink never took it": self.lost,
            "two Message-IDs for one letter": [
                to for to, all_ in self.dots.items() if len({dot.message_id for dot in all_} - {"-"}) > 1
            ],
            "in doubt without a cause": [to for to in self.silent if all(dot.what == "kept" for dot in self.dots[to])],
        }
        if self.name == "at_most_once":
            found["taken twice"] = self.doubled
            found["taken, but said to be something else"] = [
                to for to, (state, _) in self.ends.items() if state not in {"sent", "unknown"} and self.taken[to]
            ]
        else:
            found["in doubt for good"] = self.died + self.silent
        return [
            f"{self.name}: {what}: {len(who)}: "
            + "; ".join(f"{to} {self.ends.get(to)} {self.dots.get(to)}" for to in who[:4])
            for what, who in found.items()
            if who
        ]

    def figures(self) -> dict[str, int]:
        """Return the numbers for the table."""
        return {
            "letters": len(self.ends),
            **{state: self.states[state] for state in ("sent", "bounced", "failed", "skipped", "unknown")},
            "  a worker died": len(self.died),
            "  no reply came": len(self.silent),
            "at the sink": sum(map(bool, self.taken.values())),
            "lost": len(self.lost),
            "doubled": len(self.doubled),
        }


async def audit(world: World) -> dict[str, dict[str, int]]:
    """Return the figures of each campaign.

    Raises:
        Broken: a promise was not kept; all of them are named.

    """
    dots: dict[str, list[Taken]] = defaultdict(list)
    for dot in world.sink.dots():
        dots[dot.recipient].append(dot)
    wrong: list[str] = []
    counts = []
    for name, campaign_id in world.campaigns.items():
        count = Count(name, await world.ask(LETTERS, campaign_id, f"{name.replace('_', '-')}.example"), dots)
        counts.append(count)
        wrong += count.wrong()
        counters = {row["key"]: row["n"] for row in await world.ask(COUNTERS, campaign_id)}
        recounted = await recount(world.db, campaign_id)
        if counters != recounted:
            wrong.append(f"{name}: counters {counters} are not the recount {recounted}")
    world.most_in_doubt = world.in_doubt()
    world.faults_seen = world.sink.faults()
    wrong += _in_doubt(
        world.struck, sum(len(count.died) for count in counts), most=world.most_in_doubt, patient=world.patient
    )
    if world.patient and (never := [fault for fault in BY_LETTER if not world.faults_seen[fault]]):
        wrong.append(f"the server never did {never}: {dict(world.faults_seen)}")
    if any(world.exits):
        wrong.append(f"workers that were told to stop ended with {world.exits}")
    if any(code != 1 or not starting for code, starting in world.ended):
        wrong.append(f"workers ended by themselves, with (code, starting while the database was away): {world.ended}")
    if wrong:
        raise Broken("\n".join(wrong))
    return {count.name: count.figures() for count in counts}


def _in_doubt(struck: Sequence[Struck], died: int, *, most: int, patient: bool) -> list[str]:
    wrong = [
        f"{one.name} at {one.at:.1f} s left {one.unknown} letters in doubt, at most {most} may be"
        for one in struck
        if one.name in BOUNDED and one.unknown > (0 if one.name in NONE else most)
    ]
    kills = [one.unknown for one in struck if one.name in {"kill", "supervisor"}]
    if died > (sum(kills) if patient else len(kills) * most):
        wrong.append(f"{died} letters are in doubt for good, kills left {kills}")
    return wrong


def table(figures: dict[str, dict[str, int]]) -> str:
    """Return the figures of all campaigns side by side."""
    names = list(figures)
    lines = [f"  {'':<16} {' '.join(f'{name:>14}' for name in names)}"]
    lines += [f"  {row:<16} {' '.join(f'{figures[name][row]:>14,}' for name in names)}" for row in figures[names[0]]]
    return "\n".join(lines)
