"""From what one letter's clicks were to what they are: how far each counter moves.

Pure. A letter is unique in a number once it has one such signal, so a revised verdict takes it away again when it was the
last one. ``unique_human`` and ``unique_machine`` overlap: a letter may be opened by both.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from mailbase.signals.verdicts import Verdict

ANY_LINK: Final = -1


class Seen(NamedTuple):
    """How many signals of one sort a letter has; the rest of ``total`` is unknown."""

    total: int = 0
    human: int = 0
    machine: int = 0

    def plus(self, other: "Seen") -> "Seen":
        """Return the sum."""
        return Seen(self.total + other.total, self.human + other.human, self.machine + other.machine)

    def minus(self, other: "Seen") -> "Seen":
        """Return the difference."""
        return Seen(self.total - other.total, self.human - other.human, self.machine - other.machine)


FOLDED: Final[dict[Verdict, Seen]] = {"human": Seen(0, -1, 1), "unknown": Seen(0, 0, 1), "machine": Seen()}
"""What turning a signal of this verdict into a machine's adds."""

ONE: Final[dict[Verdict, Seen]] = {"human": Seen(1, 1, 0), "machine": Seen(1, 0, 1), "unknown": Seen(1, 0, 0)}
"""What one new signal adds."""


def changes(what: int, before: Seen, after: Seen) -> Iterator[tuple[str, int]]:
    """Yield (counter key, n) for any link of one letter, or one link (``what`` as in ``engagements``)."""
    total, unique, human, machine = _keys(what)
    yield total, after.total - before.total
    yield unique, (after.total > 0) - (before.total > 0)
    yield human, (after.human > 0) - (before.human > 0)
    if machine:
        yield machine, (after.machine > 0) - (before.machine > 0)


def _keys(what: int) -> tuple[str, str, str, str]:
    if what == ANY_LINK:
        return "click.total", "click.unique", "click.human", "click.machine"
    return f"link.{what}.clicks", f"link.{what}.unique", f"link.{what}.human", ""


def hour_key(at: datetime) -> str:
    """Return the counter of one UTC hour of clicks."""
    return f"hour.{int(at.timestamp()) // 3600 * 3600}.clicks"
