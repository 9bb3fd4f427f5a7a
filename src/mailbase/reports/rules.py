"""The table of rules: which words mean which reason. ``rules/*.txt`` hold them, one a line, with a sample and its source.

::

    = invalid_recipient            the reason of the rules below
    = invalid_recipient weak       the same, but anything else that is said wins
    phrase | a real reply | where it was read

A phrase is matched as ``wording.pieces`` says. The tests hold every rule to its sample.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mailbase.reports.verdicts import CLASS_OF
from mailbase.reports.wording import pieces

FOLDER = Path(__file__).parent / "rules"


class Rule(NamedTuple):
    """One line of the table."""

    reason: str
    weak: bool
    phrase: str
    sample: str
    source: str


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
            phrase, sample, source = (part.strip() for part in line.split(" | "))
            yield Rule(reason, weak, phrase, sample, source)


def _compiled() -> tuple[tuple[tuple[str, ...], str, bool], ...]:
    return tuple((pieces(rule.phrase), rule.reason, rule.weak) for rule in read())


RULES = _compiled()
"""(what to look for, reason, whether weak)"""
