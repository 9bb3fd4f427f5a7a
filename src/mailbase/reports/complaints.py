"""Feedback reports: ARF (RFC 5965), Microsoft's JMRP, AOL's old kind, and a letter that says "unsubscribe".

A complaint ends the subscription; ``not-spam`` and reports about authentication change nothing.
"""

import re

import msgspec

from mailbase.reports.addresses import MACHINES, addresses, one_of
from mailbase.reports.mime import Part
from mailbase.reports.returned import Returned

NO_COMPLAINT = frozenset({"not-spam", "auth-failure", "dmarc", "dkim"})

_FIELD = re.compile(r"^([A-Za-z][A-Za-z\-]{2,40})[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_BEGINS = re.compile(r"^feedback-type[ \t]*:", re.IGNORECASE | re.MULTILINE)
_OLD = re.compile(
    r"(?:^|[<\s])(?:staff@(?:hotmail|live)\.com|scomp@aol\.net|fbl[\w.\-]*@[\w.\-]+|feedback@arf\.[\w.\-]+|complaints@[\w.\-]+|[\w.\-]*feedbackloop[\w.\-]*@[\w.\-]+)",
    re.IGNORECASE,
)
_LEAVE = re.compile(
    r"\s*(?:re:\s*)?(?:unsubscribe|opt-?out|abmelden|désabonner|desinscrire|désinscription|отписаться)\b[\s.!]*(?:\S{0,80})\s*",
    re.IGNORECASE,
)


class Complaint(msgspec.Struct):
    """What was reported, of whom: ``kind`` is the Feedback-Type in lower case."""

    kind: str
    recipients: list[str]
    senders: list[str]
    reporting_mta: str | None = None

    @property
    def counts(self) -> bool:
        """Whether it ends the subscription."""
        return self.kind not in NO_COMPLAINT


def find(mail: Part, parts: list[Part], letter: Returned) -> Complaint | None:
    """Return the complaint a mail is, if it is one."""
    for part in parts:
        text = (
            part.text
            if part.kind == "message/feedback-report" or part.kind.startswith("text/plain") or not part.kind
            else ""
        )
        if text and (part.kind == "message/feedback-report" or _BEGINS.match(text.lstrip())):
            return _report(text, letter)
    if "feedback-report" in mail.type_line.lower():
        return Complaint("abuse", _told(letter), [])
    if "x-hmxmroriginalrecipient" in letter.part.fields:
        return Complaint("abuse", addresses(letter.part.first("x-hmxmroriginalrecipient")), [])
    if letter and _OLD.search(mail.first("from")) and "delivery-status" not in mail.type_line:
        return Complaint("abuse", _told(letter), [])
    if _LEAVE.fullmatch(mail.first("subject")) and not MACHINES.search(mail.first("from")):
        return Complaint("opt-out", addresses(mail.first("from"))[:1], [])
    return None


def _report(text: str, letter: Returned) -> Complaint:
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall(text[:64_000]):
        fields.setdefault(name.lower(), []).append(" ".join(value.split()))
    kind = re.sub(r"[^a-z\-]", "", fields.get("feedback-type", ["abuse"])[0].lower()) or "abuse"
    if fields.get("auth-failure"):
        kind = "auth-failure"
    told = [
        one_of(value)
        for name in ("original-rcpt-to", "removal-recipient", "redacted-address")
        for value in fields.get(name, ())
    ]
    recipients = list(dict.fromkeys(one for one in told if "@" in one)) or _told(letter)
    mta = (fields.get("reporting-mta") or [""])[0].partition(";")[2].strip()
    senders = [one_of(value) for value in fields.get("original-mail-from", ())]
    return Complaint(kind, recipients, [one for one in senders if one], mta or None)


def _told(letter: Returned) -> list[str]:
    return letter.recipients[:10]
