"""What a refusal means: from its code, its enhanced status (RFC 3463, RFC 5248) and its words.

Order of evidence: a full mailbox in words · a status nobody overrules · words that blame the sender · words that say
nobody is there · a status that names a cause · other words · what the grammar says (``absent``) · words that say little ·
the bare code. A status that names only a family (5.0.0, 5.1.0, 5.5.0 …) is none.
"""

import re
from functools import lru_cache
from typing import Final

from mailbase.reports.absent import absent, shut
from mailbase.reports.rules import candidates
from mailbase.reports.senders import blamed, limited, too_early
from mailbase.reports.tongues import spoken_of
from mailbase.reports.verdicts import CLASS_OF, VERDICTS, Verdict
from mailbase.reports.wording import Phrases, plain, spoken

# What must not stand before them is looked at afterwards: a pattern that begins with its digit is found much faster.
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
_CODE = re.compile(r"[45]\d\d(?=[\s\-:;,]|$)(?! ?(?:bytes|kb|mb|messages|seconds|minutes|hours|days))")

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
    "7.5": "bad_connection",
    "7.8": "authentication_failed",
    "7.13": "inactive_mailbox",
    "7.17": "inactive_mailbox",
    "7.18": "bad_domain",
    **dict.fromkeys((f"7.{n}" for n in (9, 20, 21, 22, 23, 24, 25, 26, 27, 29, 30, 32, 40, 509, 515)), "authentication_failed"),
    "7.28": "rate_limited",
    "7.38": "rate_limited",
    "7.64": "relay_denied",
    "7.360": "relay_denied",
    "7.367": "relay_denied",
    "7.511": "spam_block",
    "7.606": "spam_block",
}  # fmt: skip
_BY_SUBJECT: Final = {
    "3": "bad_configuration",
    "4": "routing_errors",
    "5": "protocol_errors",
    "6": "protocol_errors",
    "7": "policy_related",
}
_FIRM: Final = frozenset({"2.2", "2.3", "3.4", "1.7", "1.8"})
"""Statuses no words overrule: whoever gives them has looked."""
_VAGUE: Final = frozenset({"routing_errors", "transient_failure", "mailbox_unavailable", "bad_configuration"})
"""What a status may stand for while the words know better."""
_UNREACHED: Final = frozenset({"no_answer_from_host", "bad_connection"})
_ELSEWHERE: Final = frozenset(
    {
        "message_too_large",
        "message_expired",
        "no_answer_from_host",
        "bad_connection",
        "routing_errors",
        "too_many_recipients",
    }
)
"""What words say even beside a server's own "5.1.1"."""
_PROHIBITED: Final = Phrases(
    "blocked", "policy", "prohibited", "forbidden", "not authorized", "not permitted", "not allowed"
)
_DENIED: Final = Phrases(
    *(
        "relaying-issues",
        "content-related",
        "spam-related",
        "blocked",
        "policy",
        "prohibited",
        "forbidden",
        "not authorized",
        "not permitted",
        "not allowed",
    ),
    *("denied", "access rejected", "message rejected", "mail rejected", "rejected by server", "message refused"),
)
_NOT_POLICY: Final = frozenset({"7.0", "7.1", "7.13", "7.17", "7.18"})
"""5.7.1 is given for unknown users too; 5.7.13 is a disabled account, 5.7.17 one that changed hands (RFC 7293)."""

_LOGIN: Final = frozenset({534, 535, 538})
"""Codes of AUTH only (RFC 4954): nobody was asked about a reader."""

_ORDER: Final = {
    reason: n
    for n, reason in enumerate(
        (
            "virus_related", "prohibited_attachment", "authentication_failed", "spam_block", "spam_content", "rate_limited",
            "message_too_large", "relay_denied", "invalid_sender", "policy_related",
            "inactive_mailbox", "bad_domain", "invalid_recipient",
            "message_expired", "greylisted", "dns_failure", "no_answer_from_host", "bad_connection", "too_many_recipients",
            "routing_errors", "bad_configuration", "quota_issues", "mailbox_unavailable", "protocol_errors", "transient_failure",
            "uncategorized",
        )
    )
}  # fmt: skip
"""Which reason counts when the words name several of one kind."""

_SENDERS: Final = frozenset(reason for reason, cls in CLASS_OF.items() if cls == "block") | {"message_too_large"}
_HARD: Final = frozenset(reason for reason, cls in CLASS_OF.items() if cls == "hard")


def statuses(text: str) -> list[str]:
    """Return the enhanced statuses a text names, in order."""
    return [
        found[0]
        for found in _STATUS.finditer(text)
        if text[max(found.start() - 1, 0)] not in "0123456789." or not found.start()
    ]


def says(status: str | None) -> str | None:
    """Return a status that names a cause, None for one that names only a family."""
    return status if status is not None and status[0] != "2" and status[2:] not in GENERIC else None


@lru_cache(maxsize=64)
def status_of(text: str) -> str | None:
    """Return the status of a text that says most: the first that names a cause, else the first."""
    found = statuses(text)
    return next((one for one in found if says(one)), found[0] if found else None)


@lru_cache(maxsize=64)
def code_of(text: str) -> int:
    """Return the first SMTP reply code of a refusal in a text, 0 when there is none."""
    for found in _CODE.finditer(text):
        before = text[found.start() - 1] if found.start() else " "
        if not before.isalnum() and before not in "_.:-/":
            return int(found[0])
    return 0


@lru_cache(maxsize=2048)
def judge(code: int, enhanced: str | None, text: str) -> Verdict:
    """Return what one SMTP reply means; a temporary one (4xx) is never hard."""
    return weigh(code, enhanced, text, final=False)


def weigh(code: int, enhanced: str | None, text: str, *, final: bool) -> Verdict:
    """As ``judge``; ``final`` says that the other side has given up, so that a 4xx may mean that nobody is there."""
    temporary = enhanced.startswith("4.") if enhanced else 400 <= code < 500
    reason = "authentication_failed" if code in _LOGIN else _reason(code, enhanced, text, temporary=temporary)
    if CLASS_OF[reason] == "hard" and too_early(text):
        reason = "invalid_sender"
    if temporary and not final and CLASS_OF[reason] == "hard":
        reason = "transient_failure"
    return VERDICTS[reason]


@lru_cache(maxsize=256)
def _said(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the reasons a text names: (plainly, by words that say little)."""
    words = plain(text)
    strong: set[str] = set()
    weak: set[str] = set()
    for _, wanted, reason, is_weak in candidates(words):
        if wanted is None or spoken(wanted, words):
            (weak if is_weak else strong).add(reason)
    elsewhere = spoken_of(text)
    if elsewhere:
        strong |= elsewhere if "invalid_sender" not in elsewhere else elsewhere - _HARD
    if limited(words):
        strong.add("rate_limited")
    if not strong & _SENDERS and blamed(words):
        strong.add("invalid_sender")
    if not strong & _SENDERS and shut(words):
        strong.add("inactive_mailbox")
    if " temporar" in words or ("inactive_mailbox" in strong and " hours " in words):
        strong.add("transient_failure")
    return frozenset(strong), frozenset(weak)


def _reason(code: int, enhanced: str | None, text: str, *, temporary: bool) -> str:
    status = says(enhanced) or says(status_of(text)) or enhanced or ""
    detail = status[2:]
    by_status = None if detail in GENERIC else _BY_STATUS.get(detail)
    strong, weak = _said(text)
    if "quota_issues" in strong and "rate_limited" not in strong:
        return "quota_issues"
    if by_status is not None and detail in _FIRM:
        return by_status
    theirs = _first(strong & _SENDERS)
    if detail.startswith("7.") and detail not in _NOT_POLICY:
        return theirs or by_status or "policy_related"
    if theirs:
        return theirs
    waiting = strong & {"dns_failure", "greylisted"}
    certain = _first(waiting) or _known(detail, text, weak, temporary=temporary) or _nobody(strong, temporary=temporary)
    if certain:
        return certain
    if by_status in _UNREACHED and code >= 500 and weak & _SENDERS:
        # Who answers was reached: it makes up its own meaning of 5.4.1.
        return _first(weak & _SENDERS) or by_status
    if by_status is not None and CLASS_OF[by_status] == "hard":
        by_status = None if temporary else _doubted(by_status, status, text, strong, weak)
    if by_status is not None and by_status not in _VAGUE:
        return by_status
    named = _first(strong)
    if named is None or strong == {"bad_configuration"}:
        named = (None if temporary or (by_status and by_status not in _VAGUE) else absent(text)) or named
    return named or by_status or _little(code, detail, weak, text, temporary=temporary)


def _known(detail: str, text: str, weak: frozenset[str], *, temporary: bool) -> str | None:
    """Return what single providers are known to mean."""
    if detail == "2.0" and "@docomo.ne.jp" in text:
        # The carrier says "Unknown user" with 5.2.0 when a reader's own filter refuses (moneytimes.jp/archives/185548).
        return "mailbox_unavailable"
    if detail == "4.1" and not temporary and {"policy_related", "mailbox_unavailable"} <= weak:
        # "Recipient address rejected: Access denied": how Office 365 says that nobody is there.
        return "invalid_recipient"
    return None


def _doubted(by_status: str, status: str, text: str, strong: frozenset[str], weak: frozenset[str]) -> str:
    """Return a hard status's reason, or what the reply names instead.

    Servers without enhanced codes leave it to the sender's to make up a status, and sendmail makes 5.1.1 of any 550
    after RCPT: such a status counts less than the words.
    """
    own = status in statuses(text)
    return (
        _first(strong & _ELSEWHERE if own else strong)
        or (_first(weak & _SENDERS) if (_PROHIBITED if own else _DENIED).said_in(plain(text)) else None)
        or by_status
    )


def _nobody(strong: frozenset[str], *, temporary: bool) -> str | None:
    """Return why the words say that nobody is there; a mailbox that is only closed for now is not gone."""
    reason = _first(strong & _HARD)
    for_now = "transient_failure" in strong
    if reason is None or (temporary and for_now) or (reason == "inactive_mailbox" and (temporary or for_now)):
        return None if reason is None else "mailbox_unavailable"
    return reason


def _little(code: int, detail: str, weak: frozenset[str], text: str, *, temporary: bool) -> str:
    """Return the reason when nothing names one."""
    faint = _first(weak & _SENDERS)
    if detail in {"7.0", "7.1"}:
        return faint or "policy_related"
    if temporary:
        return "transient_failure"
    if detail and detail not in GENERIC:
        return faint or _BY_SUBJECT.get(detail.partition(".")[0], "uncategorized")
    faint = faint or _first(weak)
    if faint:
        return faint
    if code == 552:
        return "quota_issues"
    # Servers that block give 521 too, and say so.
    return "bad_domain" if code in {521, 556} and not plain(text).strip() else "uncategorized"


def _first(found: frozenset[str]) -> str | None:
    return min(found, key=_ORDER.__getitem__) if found else None
