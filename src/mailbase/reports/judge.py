"""What a refusal means: from its code, its enhanced status (RFC 3463, RFC 5248) and its words.

Order of evidence: a full mailbox in words · words that blame the sender · words that say nobody is there · a status
that says something · weak words · the bare code. A status that says nothing (5.0.0, 5.1.0, 5.5.0 …) never wins.
"""

import re
from functools import lru_cache
from typing import Final

from mailbase.reports.rules import RULES
from mailbase.reports.verdicts import CLASS_OF, VERDICTS, Verdict
from mailbase.reports.wording import plain, spoken

_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d]|\.\d)")
_CODE = re.compile(r"(?<![\w.:\-/])([45]\d\d)(?=[\s\-:;,]|$)(?! ?(?:bytes|kb|mb|messages|seconds|minutes|hours|days))")

GENERIC: Final = frozenset({"0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "5.1", "5.2"})
"""Subject and detail that name a family and no cause; 5.5.1 and 5.5.2 are given for anything at all."""

_BY_STATUS: Final = {
    "1.1": "invalid_recipient",
    "1.2": "bad_domain",
    "1.3": "invalid_recipient",
    "1.6": "inactive_mailbox",
    "1.7": "invalid_sender",
    "1.8": "invalid_sender",
    "1.9": "protocol_errors",
    "1.10": "invalid_recipient",
    "2.1": "mailbox_unavailable",
    "2.2": "quota_issues",
    "2.3": "message_too_large",
    "2.4": "bad_configuration",
    "3.1": "quota_issues",
    "3.2": "transient_failure",
    "3.3": "protocol_errors",
    "3.4": "message_too_large",
    "3.5": "bad_configuration",
    "4.1": "no_answer_from_host",
    "4.2": "bad_connection",
    "4.3": "dns_failure",
    "4.4": "routing_errors",
    "4.5": "transient_failure",
    "4.6": "routing_errors",
    "4.7": "message_expired",
    "4.8": "message_expired",
    "4.14": "routing_errors",
    "4.300": "message_expired",
    "4.310": "bad_domain",
    "4.312": "dns_failure",
    "4.316": "message_expired",
    "4.317": "no_answer_from_host",
    "5.3": "too_many_recipients",
    "7.13": "inactive_mailbox",
    "7.8": "authentication_failed",
    "7.20": "authentication_failed",
    "7.21": "authentication_failed",
    "7.22": "authentication_failed",
    "7.23": "authentication_failed",
    "7.24": "authentication_failed",
    "7.25": "authentication_failed",
    "7.26": "authentication_failed",
    "7.27": "authentication_failed",
    "7.28": "rate_limited",
    "7.29": "authentication_failed",
    "7.30": "authentication_failed",
    "7.32": "authentication_failed",
    "7.40": "authentication_failed",
    "7.509": "authentication_failed",
    "7.515": "authentication_failed",
    "7.511": "spam_block",
    "7.606": "spam_block",
    "7.64": "relay_denied",
    "7.360": "relay_denied",
    "7.367": "relay_denied",
}
_BY_SUBJECT: Final = {"3": "bad_configuration", "4": "routing_errors", "5": "protocol_errors", "6": "protocol_errors", "7": "policy_related"}
_FIRM: Final = frozenset({"2.2", "2.3", "3.4", "1.7", "1.8"})
"""Statuses no words overrule: whoever gives them has looked."""

_PATIENCE: Final = ("message_expired", "greylisted", "no_answer_from_host", "bad_connection", "dns_failure", "transient_failure")
_SENDERS: Final = frozenset(reason for reason, cls in CLASS_OF.items() if cls == "block") | {"message_too_large"}
_HARD: Final = frozenset(reason for reason, cls in CLASS_OF.items() if cls == "hard")


def statuses(text: str) -> list[str]:
    """Return the enhanced statuses a text names, in order."""
    return [".".join(found.groups()) for found in _STATUS.finditer(text)]


def status_of(text: str) -> str | None:
    """Return the status that says most: the first specific one, else the first."""
    found = statuses(text)
    return next((one for one in found if one[2:] not in GENERIC and one[0] != "2"), found[0] if found else None)


def code_of(text: str) -> int:
    """Return the first SMTP reply code of a refusal in a text, 0 when there is none."""
    found = _CODE.search(text)
    return int(found[1]) if found else 0


@lru_cache(maxsize=2048)
def judge(code: int, enhanced: str | None, text: str) -> Verdict:
    """Return what one SMTP reply means; a temporary one (4xx) is never hard."""
    return weigh(code, enhanced, text, final=False)


def weigh(code: int, enhanced: str | None, text: str, *, final: bool) -> Verdict:
    """As ``judge``; ``final`` says that the other side has given up, so that 4xx may mean that nobody is there."""
    verdict = VERDICTS[_reason(code, enhanced, text)]
    temporary = (enhanced or "").startswith("4.") or (not enhanced and 400 <= code < 500)
    if verdict.cls == "hard" and temporary and not final:
        return VERDICTS["transient_failure"]
    return verdict


def reasons(text: str) -> tuple[str | None, set[str], set[str]]:
    """Return (first reason of the table, all that are said firmly, all that are said weakly)."""
    words = plain(text)
    strong: dict[str, None] = {}
    weak: dict[str, None] = {}
    for wanted, reason, is_weak in RULES:
        if wanted[0] in words and (reason not in strong) and (len(wanted) == 1 or spoken(wanted, words)):
            (weak if is_weak else strong)[reason] = None
    return next(iter(strong), None), set(strong), set(weak)


def _reason(code: int, enhanced: str | None, text: str) -> str:
    detail = _detail(enhanced, text)
    by_status = _BY_STATUS.get(detail) if detail not in GENERIC else None
    _, strong, weak = reasons(text)
    if "quota_issues" in strong:
        return "quota_issues"
    if detail in _FIRM and by_status is not None:
        return by_status
    if detail.startswith("7.") and detail not in {"7.0", "7.1"} and detail != "7.13":
        return _first(strong & _SENDERS) or by_status or "policy_related"
    blamed = _first(strong & _SENDERS)
    if blamed:
        return blamed
    nobody = _first(strong & _HARD)
    if nobody:
        return nobody
    if by_status == "mailbox_unavailable" and "inactive_mailbox" in weak:
        return "inactive_mailbox"
    if by_status is not None and by_status not in {"routing_errors", "transient_failure"}:
        return by_status
    rest = next((reason for reason in _PATIENCE if reason in strong), None) or _first(strong)
    if rest:
        return rest
    if by_status is not None:
        return by_status
    if detail == "7.1":
        return _first(weak & _SENDERS) or "policy_related"
    faint = _first(weak & _SENDERS) or _first(weak & _HARD) or _first(weak)
    if faint:
        return faint
    return _by_code(code, detail)


def _detail(enhanced: str | None, text: str) -> str:
    given = (enhanced or "0.0.0")[2:]
    if given in GENERIC:
        told = status_of(text)
        if told is not None and told[0] != "2" and told[2:] not in GENERIC:
            return told[2:]
    return given


def _first(found: set[str]) -> str | None:
    return min(found, key=_ORDER.__getitem__) if found else None


_ORDER: Final = {
    reason: n
    for n, reason in enumerate(
        (
            "virus_related",
            "prohibited_attachment",
            "authentication_failed",
            "spam_block",
            "spam_content",
            "rate_limited",
            "message_too_large",
            "relay_denied",
            "invalid_sender",
            "policy_related",
            "inactive_mailbox",
            "bad_domain",
            "invalid_recipient",
            *_PATIENCE,
            "too_many_recipients",
            "quota_issues",
            "mailbox_unavailable",
            "routing_errors",
            "bad_configuration",
            "protocol_errors",
            "uncategorized",
        )
    )
}


def _by_code(code: int, detail: str) -> str:
    if code == 552:
        return "quota_issues"
    if code in {521, 556}:
        return "bad_domain"
    return _BY_SUBJECT.get(detail.partition(".")[0], "uncategorized") if detail not in GENERIC else "uncategorized"
