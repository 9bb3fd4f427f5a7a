"""Resolving: which of our letters a returned mail is about, proven, and what follows from it.

Only what carries a MAC of ours proves anything, in this order:

    bounces      the address it came to (VERP) · our reference in the returned letter · its List-Unsubscribe token
    complaints   our reference · VERP among the addresses · the List-Unsubscribe token · and, where the report itself is proven to
                 come from a provider, the recipient it names, with the campaign of Feedback-ID or without

A Message-ID proves nothing: its neighbours can be guessed.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.reports.examine import Finding, Report
from mailbase.sending.domains import verp
from mailbase.sending.domains.verp import Own
from mailbase.signals.feedback import Class, Feedback
from mailbase.signals.incoming import Waiting
from mailbase.tokens import Tokens

Nothing = Literal["ignored", "unresolved"]

SOURCE: Final = "inbound"
_TOKEN: Final = re.compile(r"/u/([A-Za-z0-9_-]{16,128})")
_CAMPAIGN: Final = re.compile(r"c([0-9]{1,18}):")
_BOUNCES: Final = frozenset({"hard", "soft", "block"})
_MILDEST: Final = ("soft", "block", "hard")
_NO_COMPLAINT: Final = frozenset({"not-spam", "auth-failure"})


class Resolved(Struct):
    """What a mail comes to: reports to apply, each in a transaction of its own; without any, why not."""

    feedback: list[Feedback]
    outcome: str
    otherwise: Nothing = "ignored"
    needs_trust: bool = False
    """Whether the reports hold only if the mail is proven to come from a provider."""


def resolve(mail: Waiting, report: Report, tokens: Tokens) -> Resolved:
    """Say what follows from a mail. Pure: whether letters exist is the database's to know."""
    to = _own(tokens, mail.recipients)
    for own in to:
        if own.kind == "unsubscribe":
            return Resolved([Feedback(kind="unsubscribe", source=SOURCE, delivery_id=own.delivery_id)], "unsubscribe")
    named = _own(tokens, report.addresses)
    classes = {finding.cls for finding in report.findings}
    if report.feedback_type is not None or "feedback" in classes:
        return _complaint(mail, report, tokens, [*to, *named])
    if classes & _BOUNCES:
        return _bounce(mail, report, tokens, [*to, *named])
    if classes <= {"vacation", "delivered"}:
        return Resolved([], ", ".join(sorted({finding.reason for finding in report.findings})))
    if any(finding.reason == "delayed" for finding in report.findings):
        return Resolved([], "delayed")
    asked = next((own.delivery_id for own in named if own.kind == "unsubscribe"), None)
    if asked is not None:
        return Resolved([Feedback(kind="unsubscribe", source=SOURCE, delivery_id=asked)], "unsubscribe")
    return _unknown(mail, to)


def _own(tokens: Tokens, addresses: Iterable[str]) -> list[Own]:
    return [own for address in addresses if (own := verp.read_address(tokens, address)) is not None]


def _by_token(report: Report, tokens: Tokens) -> int | None:
    """Return the letter whose List-Unsubscribe came back."""
    for url in report.unsubscribe_urls:
        match = _TOKEN.search(url)
        numbers = tokens.read("unsubscribe", match[1], 2) if match else None
        if numbers and numbers[1]:
            return numbers[1]
        own = verp.read_address(tokens, url.removeprefix("mailto:").partition("?")[0])
        if own is not None and own.delivery_id is not None:
            return own.delivery_id
    return None


def _by_ref(report: Report, tokens: Tokens) -> int | None:
    return next((found for text in report.refs if (found := verp.read_ref(tokens, text)) is not None), None)


def _by_verp(own: Iterable[Own]) -> int | None:
    return next((one.delivery_id for one in own if one.kind == "bounce"), None)


def _complaint(mail: Waiting, report: Report, tokens: Tokens, own: list[Own]) -> Resolved:
    kind = report.feedback_type or "abuse"
    if kind in _NO_COMPLAINT:
        return Resolved([], kind)
    wish: Literal["unsubscribe", "complaint"] = "unsubscribe" if kind == "opt-out" else "complaint"
    delivery_id = _by_ref(report, tokens) or _by_verp(own) or _by_token(report, tokens)
    if delivery_id is None and wish == "unsubscribe":
        delivery_id = next((one.delivery_id for one in own if one.kind == "unsubscribe"), None)
    if delivery_id is not None:
        one = Feedback(kind=wish, source=SOURCE, delivery_id=delivery_id, reason=kind, at=mail.received_at)
        return Resolved([one], f"{wish} ({kind})")
    found = [
        Feedback(kind=wish, source=SOURCE, email=email, reason=kind, at=mail.received_at)
        for email in report.original_recipients[:20]
    ]
    return Resolved(found, f"{wish} ({kind})", "unresolved", needs_trust=True)


def campaign_of(report: Report) -> int | None:
    """Return the campaign whose Feedback-ID came back."""
    return next((int(match[1]) for text in report.feedback_ids if (match := _CAMPAIGN.match(text.strip()))), None)


def _bounce(mail: Waiting, report: Report, tokens: Tokens, own: list[Own]) -> Resolved:
    delivery_id = _by_verp(own) or _by_ref(report, tokens) or _by_token(report, tokens)
    found = [finding for finding in report.findings if finding.cls in _BOUNCES]
    words = f"{found[0].cls} bounce ({found[0].reason})"
    if delivery_id is None:
        return Resolved([], f"{words} of no letter that can be proven ours", "unresolved")
    return Resolved([_of(mail, _one(found), delivery_id)], words)


def _one(found: list[Finding]) -> Finding:
    """Return the finding that speaks for the letter.

    Several mean that the address was expanded on the other side: one member's end is not the address's.
    """
    return min(found, key=lambda finding: _MILDEST.index(finding.cls))


def _of(mail: Waiting, finding: Finding, delivery_id: int) -> Feedback:
    cls: Class = "hard" if finding.cls == "hard" else "block" if finding.cls == "block" else "soft"
    return Feedback(
        kind="bounce",
        source=SOURCE,
        delivery_id=delivery_id,
        cls=cls,
        reason=finding.reason,
        status=finding.status,
        reply=finding.reply,
        reporting_mta=finding.reporting_mta,
        at=mail.received_at,
    )


def _unknown(mail: Waiting, to: list[Own]) -> Resolved:
    """A bounce nobody can read is still one when it came from the null sender to a letter's own address."""
    delivery_id = _by_verp(to)
    if delivery_id is None:
        return Resolved([], "nothing that can be understood", "unresolved")
    if mail.mail_from:
        return Resolved([], "an answer to an envelope sender, not a report", "unresolved")
    one = Feedback(
        kind="bounce", source=SOURCE, delivery_id=delivery_id, cls="soft", reason="unreadable", at=mail.received_at
    )
    return Resolved([one], "a bounce that cannot be read")


OF_CAMPAIGN = """
SELECT delivery.id FROM deliveries AS delivery JOIN subscribers AS person ON person.id = delivery.subscriber_id
WHERE delivery.campaign_id = $1 AND person.email_key = lower($2)
"""


async def narrow(db: Connection, found: list[Feedback], campaign_id: int) -> None:
    """Give reports that name only an address the letter of that campaign to it."""
    for one in found:
        if one.delivery_id is None and one.email is not None:
            one.delivery_id = await db.fetchval(OF_CAMPAIGN, campaign_id, one.email)
