"""Receipts for letters that were shown, deleted or refused on arrival (RFC 8098).

Filters and mailboxes refuse in this form too (RFC 5429 § 2.2.1, Dovecot over quota): ``automatically rejected``.
"""

import re
from typing import Final

import msgspec

from mailbase.reports.addresses import addresses, one_of
from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.reports.mime import Part
from mailbase.reports.verdicts import VERDICTS, Verdict

KINDS: Final = frozenset({"message/disposition-notification", "message/global-disposition-notification"})

_FIELD = re.compile(r"^([A-Za-z][A-Za-z\-]{2,40})[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_REFUSED = re.compile(r"automatically (?:rejected|refused)|rejected automatically", re.IGNORECASE)
_SAID = re.compile(r"^.{0,400}?automatically (?:rejected|refused)[^\n]*", re.IGNORECASE | re.DOTALL)


class Receipt(msgspec.Struct, frozen=True):
    """What became of a letter; without a verdict somebody may have read it."""

    recipient: str | None
    verdict: Verdict | None


def find(mail: Part, parts: list[Part], notice: str) -> Receipt | None:
    """Return the receipt a mail is, if it is one."""
    part = next((part for part in parts if part.kind in KINDS), None)
    if part is None:
        return None
    fields = {name.lower(): " ".join(value.split()) for name, value in _FIELD.findall(part.text[:16_000])}
    told = [one_of(fields.get(name, "")) for name in ("final-recipient", "original-recipient")]
    whose = next((one for one in told if "@" in one), None) or next(iter(addresses(mail.first("from"))), None)
    return Receipt(whose, _verdict(mail, fields.get("disposition", "").lower(), notice))


def _verdict(mail: Part, disposition: str, notice: str) -> Verdict | None:
    what, _, modifiers = disposition.partition(";")[2].partition("/")
    if "mailbox-terminated" in modifiers:
        return VERDICTS["inactive_mailbox"]
    if (
        what.strip() in {"denied", "failed"}
        or "error" in modifiers
        or "rejected" in mail.first("auto-submitted")
        or _REFUSED.search(notice)
    ):
        reason = _SAID.sub("", notice).strip()
        verdict = weigh(code_of(reason), status_of(reason), reason, final=True)
        return VERDICTS["policy_related"] if verdict.reason == "uncategorized" else verdict
    return None
