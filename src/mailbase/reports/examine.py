"""One mail that came back, read: what it says of whom. ``examine`` never raises, whatever the bytes."""

import msgspec

from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.reports.verdicts import Class


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says of one recipient."""

    recipient: str | None
    cls: Class
    reason: str
    status: str | None = None
    reply: str | None = None
    suppress: bool = False
    reporting_mta: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says, and what in it may tell which letter it is about."""

    findings: tuple[Finding, ...]
    feedback_type: str | None = None
    addresses: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    unsubscribe_urls: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    feedback_ids: tuple[str, ...] = ()
    original_recipients: tuple[str, ...] = ()


def examine(data: bytes) -> Report:
    """Return what a mail says."""
    text = data.decode("utf-8", "replace")
    verdict = weigh(code_of(text), status_of(text), text, final=True)
    return Report(findings=(Finding(recipient=None, cls=verdict.cls, reason=verdict.reason),))
