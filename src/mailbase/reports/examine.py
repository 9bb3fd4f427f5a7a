"""One mail that came back, read: what it says of whom. ``examine`` never raises, whatever the bytes.

::

    a complaint? ─▶ feedback
    a delivery report (RFC 3464)? ─▶ each recipient: failed ─▶ judged · delayed ─▶ unknown · delivered, relayed ─▶ delivered
    a receipt? ─▶ delivered
    an automatic answer? ─▶ vacation
    a notice in words? ─▶ each recipient it names, judged by the words beside it
    anything else ─▶ unknown
"""

import re

import msgspec

from mailbase.reports import automatic, complaints, delivery_status, notices, receipts, returned
from mailbase.reports.addresses import addresses
from mailbase.reports.judge import code_of, says, status_of, weigh
from mailbase.reports.mime import Part, read
from mailbase.reports.prose import LONGEST_NOTICE, lead_of, written
from mailbase.reports.senders import never_asked, too_early
from mailbase.reports.verdicts import VERDICTS, Class, Verdict
from mailbase.reports.wording import plain

LONGEST_REPLY = 1000
MOST_APART = 50
SHORTEST_SUBJECT = 12
ABOUT_US = ("to", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-delivered-to")
"""Headers that say whom a report was sent to."""

DISPLAYED = Verdict("delivered", "displayed")

_REPLY = re.compile(
    r"(?<![\w.])[245]\d\d[ \-#]\s*(?:\(?#?[245]\.\d{1,3}\.\d{1,3}|[^\n]{8})[^\n]*(?:\n(?:[ \t]*[245]\d\d[ \-]|[ \t]{2,}\S)[^\n]*){0,12}"
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says of one recipient."""

    recipient: str | None
    cls: Class
    reason: str
    """A reason of ``verdicts``, or: a feedback type, ``delayed``, ``delivered``, ``displayed``, ``automatic_answer``, ``challenge``, ``no_report``."""
    status: str | None = None
    reply: str | None = None
    suppress: bool = False
    """Whether the address should get nothing from now on."""
    reporting_mta: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says, and whatever in it may tell which letter it is about."""

    findings: tuple[Finding, ...]
    """One a recipient; never empty."""
    feedback_type: str | None = None
    addresses: tuple[str, ...] = ()
    """Whom the report was sent to and whom the letter names as its sender: one of them may be VERP."""
    refs: tuple[str, ...] = ()
    unsubscribe_urls: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    feedback_ids: tuple[str, ...] = ()
    original_recipients: tuple[str, ...] = ()


def examine(data: bytes) -> Report:
    """Return what a mail says, whatever its bytes."""
    mail = read(data)
    parts = mail.walk()
    written_to = mail.all(*ABOUT_US)
    forwarded = returned.forwarded(mail, parts)
    if forwarded is not None:
        mail, parts = forwarded, forwarded.walk()
        written_to += mail.all(*ABOUT_US)
    letter = returned.of_parts(parts)
    notice = written(parts)
    notice, quoted = returned.cut(notice)
    letter = letter or quoted
    if len(subject := letter.part.first("subject")) >= SHORTEST_SUBJECT:
        notice = notice.replace(subject, " ")
    status = _status(parts, notice)
    complaint = None if status is not None and status.blocks else complaints.find(mail, parts, letter)
    named: list[str] = []
    if complaint is not None:
        named = complaint.senders
        findings = _complained(complaint)
        originals = complaint.recipients
    elif status is not None and status.blocks:
        findings = _reported(mail, status, notice, letter)
        originals = list(dict.fromkeys(status.originals))
    else:
        findings = _told(mail, parts, notice, letter)
        originals = [found.recipient for found in findings if found.recipient]
    return Report(
        findings=tuple(findings),
        feedback_type=complaint.kind if complaint else None,
        addresses=_unique(
            [
                *addresses(" , ".join(written_to)),
                *named,
                *letter.senders,
                *addresses(" , ".join(mail.all("x-postfix-sender"))),
            ]
        ),
        refs=_unique([*letter.refs, *mail.all("x-mailbase-ref")]),
        unsubscribe_urls=_unique(letter.unsubscribe_urls),
        message_ids=_unique([*letter.message_ids, *returned.ids(mail.all("in-reply-to", "references"))]),
        feedback_ids=_unique(letter.feedback_ids),
        original_recipients=_unique([*originals, *addresses(" , ".join(letter.part.all("x-hmxmroriginalrecipient")))]),
    )


def _unique(values: "list[str] | tuple[str, ...]") -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))[:200]


def _status(parts: list[Part], notice: str) -> delivery_status.Status | None:
    told = [
        found
        for part in parts
        if part.kind in delivery_status.KINDS
        if (found := delivery_status.parse(part.text)).blocks
    ]
    if told:
        # Some write a part for each recipient.
        return delivery_status.Status(
            reporting_mta=told[0].reporting_mta,
            blocks=[block for found in told for block in found.blocks],
            originals=[one for found in told for one in found.originals],
        )
    for part in parts:
        if (
            not part.parts
            and part.kind.startswith(("text/", "message/", "multipart/", "application/octet"))
            and delivery_status.looks_like(part.text[:LONGEST_NOTICE])
        ):
            return delivery_status.parse(part.text)
    return delivery_status.parse(notice) if delivery_status.looks_like(notice) else None


def _complained(complaint: complaints.Complaint) -> list[Finding]:
    return [
        Finding(
            recipient=recipient,
            cls="feedback",
            reason=complaint.kind,
            suppress=complaint.counts,
            reporting_mta=complaint.reporting_mta,
        )
        for recipient in _somebody(complaint.recipients)
    ]


def _reported(mail: Part, status: delivery_status.Status, notice: str, letter: returned.Returned) -> list[Finding]:
    everyone = [block.recipient for block in status.blocks if "@" in block.recipient]
    # Some report on whom the letter came from: whoever the words name instead is meant.
    senders = {one.casefold() for one in (*letter.senders, *addresses(" , ".join(mail.all("to"))))}
    findings: dict[str, Finding] = {}
    for block in status.blocks:
        recipient: str | None = block.recipient
        if not recipient or "@" not in recipient or recipient.casefold() in senders:
            guessed = notices.recipients(mail, notice, letter)
            recipient = guessed[0] if len(guessed) == 1 or (guessed and len(status.blocks) == 1) else recipient or None
        elif not (block.status or block.reply):
            # The report stops in the middle of an address: the text above has it whole.
            whole = notices.recipients(mail, notice, letter)
            recipient = next((one for one in whole if one.startswith(block.recipient)), recipient)
        reply = " ".join(block.reply.split())
        if block.action == "delivered":
            found = Finding(
                recipient=recipient,
                cls="delivered",
                reason="delivered",
                status=block.status,
                reply=_short(reply),
                reporting_mta=status.reporting_mta,
            )
        elif block.action == "delayed":
            found = Finding(
                recipient=recipient,
                cls="unknown",
                reason="delayed",
                status=block.status,
                reply=_short(reply),
                reporting_mta=status.reporting_mta,
            )
        else:
            verdict, told = _judge(block, reply, notices.about(recipient, everyone, notice))
            found = Finding(
                recipient=recipient,
                cls=verdict.cls,
                reason=verdict.reason,
                status=told or block.status,
                reply=_short(reply or _spoken(notices.about(recipient, everyone, notice))),
                suppress=verdict.cls == "hard",
                reporting_mta=status.reporting_mta,
            )
        findings.setdefault((recipient or "").casefold(), found)
    return list(findings.values())


def _judge(block: delivery_status.Block, reply: str, notice: str) -> tuple[Verdict, str | None]:
    """Return (verdict, the status that counts) of one failed recipient: its diagnostic, then the status, then the words above."""
    told = status_of(reply)
    enhanced = says(told) or says(block.status) or says(status_of(block.supplement)) or told or block.status
    text = f"{reply} {block.supplement}".strip()
    verdict = weigh(code_of(reply), enhanced, text, final=True)
    if verdict.reason in {"uncategorized", "mailbox_unavailable"} or (verdict.reason == "policy_related" and not reply):
        for wider in (notices.paragraph(block.recipient, [], notice), notice):
            lead = lead_of(wider)
            second = weigh(code_of(reply) or code_of(lead), enhanced or status_of(lead), f"{text} {lead}", final=True)
            if second.reason not in {"uncategorized", verdict.reason}:
                return second, enhanced
    if verdict.cls == "hard" and (
        too_early(notices.paragraph(block.recipient, [], notice)) or never_asked(notice[:LONGEST_NOTICE])
    ):
        verdict = VERDICTS["invalid_sender"]
    return verdict, enhanced


def _told(mail: Part, parts: list[Part], notice: str, letter: returned.Returned) -> list[Finding]:
    receipt = receipts.find(mail, parts, notice)
    if receipt is not None:
        verdict = receipt.verdict or DISPLAYED
        reply = _spoken(notice) if receipt.verdict else None
        return [
            Finding(
                recipient=receipt.recipient,
                cls=verdict.cls,
                reason=verdict.reason,
                status=status_of(notice) if receipt.verdict else None,
                reply=reply,
                suppress=verdict.cls == "hard",
            )
        ]
    if not notice.strip():
        # Some say it all in the subject; what the letter was called is not theirs.
        notice = mail.first("subject").replace(letter.part.first("subject") or "\n", " ")
    machine = automatic.from_machine(mail)
    failure = automatic.failure(mail) and (machine or bool(letter) or not automatic.from_list(mail))
    lead = lead_of(notice)
    words = plain(lead)
    if not failure and automatic.vacation(mail) and not (machine and automatic.FAILURE.said_in(words)):
        return [Finding(recipient=_first(addresses(mail.first("from"))), cls="vacation", reason="automatic_answer")]
    if not (status_of(lead) or failure) and automatic.challenge(mail, lead):
        return [Finding(recipient=_first(addresses(mail.first("from"))), cls="vacation", reason="challenge")]
    verdict = weigh(code_of(lead), status_of(lead), lead, final=True)
    speaks = bool(letter) + bool(code_of(lead) or status_of(lead)) + automatic.FAILURE.said_in(words)
    # What blames the sender stands in reports of other kinds too, of authentication for instance.
    silent = verdict.reason == "uncategorized" or (verdict.cls == "block" and not speaks)
    if silent and automatic.succeeded(mail, lead):
        return [
            Finding(recipient=one, cls="delivered", reason="delivered")
            for one in _somebody(notices.recipients(mail, notice, letter))
        ]
    # People write of missing mailboxes too: without a server's name or subject it takes two signs.
    late = automatic.delayed(mail, lead)
    if (
        not failure
        and not (machine and late)
        and ((silent and not (machine and speaks)) or not (machine or speaks > 1))
    ):
        return [Finding(recipient=None, cls="unknown", reason="no_report")]
    people = notices.recipients(mail, notice, letter)
    if not (failure or machine or people):
        return [Finding(recipient=None, cls="unknown", reason="no_report")]
    if late:
        return [
            Finding(recipient=one, cls="unknown", reason="delayed", status=status_of(lead), reply=_spoken(lead))
            for one in _somebody(people)
        ]
    shared = _shared(people, lead)
    return [_beside(one, people, notice, lead, shared) for one in _somebody(people)]


def _shared(people: list[str], lead: str) -> str:
    """Return what a notice says of everybody: what it says beside one of several is not about the others."""
    if 1 < len(people) <= MOST_APART:
        for one in people:
            own = notices.paragraph(one, people, lead)
            if own and (code_of(own) or status_of(own)):
                lead = lead.replace(own, " ", 1)
    return lead


def _beside(one: str | None, people: list[str], notice: str, lead: str, shared: str) -> Finding:
    """Return what a notice says of one recipient: the server's words it quotes, the paragraph that names it, what goes with it, else all of it."""
    named = notices.paragraphs(one, people, lead)
    own, around = "\n".join(named[:1]), lead_of(notices.about(one, people, notice))
    beside = [pair for text in named for pair in ((_quoted(text), True), (text, False))]
    for text, quoted in (*beside, (_quoted(around), True), (around, False), (shared, False)):
        verdict = weigh(code_of(text), status_of(text), text, final=True)
        # A quotation may be cut: only what it says for certain counts before the whole.
        if verdict.cls in {"hard", "block"} if quoted else verdict.reason != "uncategorized":
            break
    if verdict.cls == "hard" and (too_early(own) or never_asked(notice[:LONGEST_NOTICE])):
        verdict = VERDICTS["invalid_sender"]
    return Finding(
        recipient=one,
        cls=verdict.cls,
        reason=verdict.reason,
        status=status_of(text),
        reply=_spoken(text),
        suppress=verdict.cls == "hard",
    )


def _somebody(people: list[str]) -> list[str | None]:
    """Return the recipients, or the one nobody named."""
    return [*people] or [None]


def _first(values: list[str]) -> str | None:
    return values[0] if values else None


def _quoted(text: str) -> str:
    """Return the reply a text quotes: what the other server said, without what this one says around it."""
    found = _REPLY.search(text)
    return found[0] if found else ""


def _spoken(notice: str) -> str | None:
    """The server's own words within a notice; the whole notice when it quotes none."""
    found = _REPLY.search(notice)
    return _short(" ".join((found[0] if found else notice).split()))


def _short(text: str | None) -> str | None:
    return text[:LONGEST_REPLY] if text else None
