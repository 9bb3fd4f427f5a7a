"""The table of rules: which words mean which reason. ``rules/*.txt`` hold them, one a line, with a sample and its source.

::

    = invalid_recipient            the reason of the rules below
    = invalid_recipient weak       the same, but anything else that is said wins
    phrase | a reply | where it was read, or "common wording" where many write so and none defines it

A phrase is matched as ``wording.phrase`` says. The tests hold every rule to its sample.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mailbase.reports.verdicts import CLASS_OF
from mailbase.reports.wording import HEAD, Phrase, head, phrase

FOLDER = Path(__file__).parent / "rules"


class Rule(NamedTuple):
    """One line of the table."""

    reason: str
    weak: bool
    phrase: str
    sample: str
    source: str


class Look(NamedTuple):
    """A rule as it is used; ``first`` is the piece to look for before anything else."""

    first: str
    phrase: Phrase | None
    """None when the first piece is the whole phrase."""
    reason: str
    weak: bool


def read() -> Iterator[Rule]:
    """Yield the rules as written.

    Raises:
        ValueError: a line is not of the form above.
    """
    for path in sorted(FOLDER.glob("*.txt")):
        reason, weak = "", False
        for line in path.read_text("utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            if line.startswith("= "):
                reason, _, strength = line[2:].partition(" ")
                weak = strength == "weak"
                if reason not in CLASS_OF or strength not in {"", "weak"}:
                    raise ValueError(f"{path.name}: {line}")
                continue
            parts = [part.strip() for part in line.split(" | ")]
            if len(parts) != 3 or not reason:
                raise ValueError(f"{path.name}: {line}")
            yield Rule(reason, weak, *parts)


def _ready(rule: Rule) -> Look:
    wanted = phrase(rule.phrase)
    return Look(wanted.pieces[0], wanted if len(wanted.pieces) > 1 else None, rule.reason, rule.weak)


Group = tuple[str, list[Look]]
"""Rules with the same first piece: it is looked for once."""


def _filed() -> tuple[dict[str, list[Group]], list[Group]]:
    groups: dict[str, list[Look]] = {}
    for look in map(_ready, read()):
        groups.setdefault(look.first, []).append(look)
    by_head: dict[str, list[Group]] = {}
    anywhere: list[Group] = []
    for first, looks in groups.items():
        filed = head(first)
        (by_head.setdefault(filed, []) if filed else anywhere).append((first, looks))
    return by_head, anywhere


_BY_HEAD, _ANYWHERE = _filed()


def candidates(words: str) -> list[Look]:
    """Return the rules whose first piece is among the words; most need not be looked at."""
    groups = [] if words.isascii() else list(_ANYWHERE)
    for filed in _BY_HEAD.keys() & {word[:HEAD] for word in words.split()}:
        groups += _BY_HEAD[filed]
    return [look for first, looks in groups if first in words for look in looks]
