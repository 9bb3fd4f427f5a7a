"""What a key's numbers say: is it well, to be held, to step back, or to stop? Pure; the thresholds are in the rules.

Minimum samples keep one bounce of three from saying anything. What one provider's refusals say is about that provider alone, so
the totals are judged by bounces, complaints and departures only.
"""

from typing import Final, Literal

from msgspec import Struct

from mailbase.sending.warmup.rules import TOTAL, Rules, Signal

Verdict = Literal["well", "hold", "step_back", "suspend", "stop", "pause"]

WORSE: Final[tuple[Verdict, ...]] = ("well", "hold", "step_back", "suspend", "stop", "pause")


class Counts(Struct, frozen=True, kw_only=True):
    """What became of a key's letters, each count within its signal's window."""

    hard_sent: int = 0
    hard: int = 0
    ever_sent: int = 0
    ever_hard: int = 0
    complaints_sent: int = 0
    complaints: int = 0
    attempts: int = 0
    deferred: int = 0
    attempts_before: int = 0
    deferred_before: int = 0
    """In the window before the last one."""
    unsubscribed_sent: int = 0
    unsubscribed: int = 0
    blocked_hour: int = 0
    blocked_day: int = 0
    blocked_days: int = 0
    """Days in a row, today's included, on which there were as many as suspend."""
    engaged: float | None = None
    """By which share opens and clicks of people fell against the campaigns before; None: too few letters to say."""


class Finding(Struct, frozen=True):
    """A verdict and why, in words."""

    verdict: Verdict
    reason: str
    blames: bool = True
    """Whether it settles the account of bounces, complaints and departures: refusals for now do not."""


WELL: Final = Finding("well", "")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _words(share: float) -> str:
    return f"{share * 100:.2f} %" if share < 0.01 else f"{share * 100:.1f} %"


def _by_signal(signal: Signal, part: int, whole: int, what: str) -> Finding:
    share = _share(part, whole)
    if whole < signal.sample or part < signal.least:
        return WELL
    said = f"{part} of {whole} letters in {signal.window_hours} h {what} ({_words(share)})"
    if signal.stop is not None and share >= signal.stop:
        return Finding("stop", f"{said}; {_words(signal.stop)} stops.")
    if signal.bad is not None and share >= signal.bad:
        return Finding("step_back", f"{said}; {_words(signal.bad)} takes a level back.")
    if signal.warn is not None and share >= signal.warn:
        return Finding("hold", f"{said}; {_words(signal.warn)} holds the level.")
    return WELL


def examine(provider: str, counts: Counts, rules: Rules) -> Finding:
    """Return the worst that a key's numbers say."""
    found = [
        _by_signal(rules.hard, counts.hard, counts.hard_sent, "bounced for good"),
        _by_signal(rules.complaints, counts.complaints, counts.complaints_sent, "brought complaints"),
        _by_signal(rules.unsubscribed, counts.unsubscribed, counts.unsubscribed_sent, "made people leave"),
    ]
    if counts.ever_sent <= rules.hard.sample and counts.ever_hard >= rules.hard_first:
        found.append(Finding("stop", f"{counts.ever_hard} of the first {counts.ever_sent} letters bounced for good."))
    fell = rules.engagement.warn
    if counts.engaged is not None and fell is not None and counts.engaged >= fell:
        found.append(Finding("hold", f"People open and click {_words(counts.engaged)} less than before."))
    if provider != TOTAL:
        found += [_by_deferrals(counts, rules), _by_blocks(counts, rules)]
    return max(found, key=lambda finding: WORSE.index(finding.verdict))


def _by_deferrals(counts: Counts, rules: Rules) -> Finding:
    signal = rules.deferred
    finding = _by_signal(signal, counts.deferred, counts.attempts, "were refused for now")
    if finding.verdict != "stop":
        return Finding(finding.verdict, finding.reason, blames=False)
    before = _by_signal(signal, counts.deferred_before, counts.attempts_before, "were refused for now")
    if before.verdict == "stop":
        return Finding(
            "suspend", f"{finding.reason[:-1]} and so it was the hour before: nothing for {rules.suspend_hours} h."
        )
    return Finding("step_back", finding.reason.replace("stops", "suspends when it lasts another hour"), blames=False)


def _by_blocks(counts: Counts, rules: Rules) -> Finding:
    blocks = rules.blocks
    if counts.blocked_day >= blocks.a_day:
        return Finding("pause", f"{counts.blocked_day} letters in 24 h refused for the sender's sake: resume by hand.")
    if counts.blocked_days >= blocks.days_running:
        return Finding("pause", f"Refused for the sender's sake on {counts.blocked_days} days running: resume by hand.")
    if counts.blocked_hour >= blocks.an_hour:
        said = f"{counts.blocked_hour} letters in an hour refused for the sender's sake"
        return Finding("suspend", f"{said}: nothing for {blocks.suspend_hours} h, then half the rate for a day.")
    return WELL


def probe_failed(counts: Counts, rules: Rules) -> str | None:
    """Return why a probe failed, or None. A probe is a handful of letters, so two bounces are enough, and any complaint."""
    if counts.hard >= 2 and _share(counts.hard, counts.hard_sent) >= (rules.hard.stop or 1):
        return f"{counts.hard} of {counts.hard_sent} letters of the probe bounced for good."
    if counts.complaints >= rules.complaints.least and counts.complaints_sent and counts.hard_sent:
        share = _share(counts.complaints, counts.complaints_sent)
        if share >= (rules.complaints.stop or 1):
            return f"{counts.complaints} complaints, {_words(share)} of what was delivered."
    if counts.blocked_day >= rules.blocks.an_hour:
        return f"{counts.blocked_day} letters of the probe were refused for the sender's sake."
    return None
