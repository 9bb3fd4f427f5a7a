"""What a mail server's reply means for one letter: its enhanced status, its bounce class, when to come back.

A refusal is *hard* only when it says that this address does not exist; those words cost a subscriber. Whatever speaks of
policy, spam, lists or authentication is a *block*: the sender's affair, never the recipient's. Everything else is *soft*.
Order of evidence: a full mailbox in words, the enhanced status (RFC 3463, RFC 5248), the words, the place of the refusal.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from mailbase.sending.outcomes import BounceClass, Envelope, Kind, Outcome, Phase

LONGEST_LINE = 4096  # RFC 5321 § 4.5.3.1.5 says 512; long URLs in refusals are common
MOST_LINES = 128
LONGEST_REPLY = 1000
LONGEST_WAIT = 24 * 3600

_ENHANCED = re.compile(r"(?:^|[\s\-#(])([245]\.\d{1,3}\.\d{1,3})(?=$|[\s:;,.)\]\-])")
_QUOTA = re.compile(
    r"mailbox (?:is )?full|mailfolder is full|over ?quota|quota (?:is )?exceeded|exceed(?:ed|s|ing)? .{0,30}quota|insufficient .{0,20}(?:storage|space)"
    r"|not enough .{0,20}(?:disk|storage|space)|out of storage|no space left|mailbox size limit",
    re.IGNORECASE,
)
_NOBODY = re.compile(
    r"(?:user|recipient|mailbox|account|address|addressee|alias)\b.{0,60}?\b(?:unknown|not found|does ?n[o']t exist|does not exist|not exist|not known|invalid|unavailable|inactive|disabled|suspended|deactivated|no longer)"
    r"|(?:no such|unknown|invalid|non-?existent|not a valid|no valid) (?:\w+ )?(?:user|recipient|mailbox|account|address|addressee|person|alias)|no mailbox here|not our customer|undeliverable address|does not have an? .{0,30}account",
    re.IGNORECASE,
)
_CLOSED = re.compile(
    r"disabled|inactive|suspended|deactivated|does not exist|no longer|closed|unknown|not found", re.IGNORECASE
)
_BLOCK = re.compile(
    r"spam|unsolicited|blacklist|black list|blocklist|block list|\bblocked\b|\bblocking\b|\bbanned\b|\bpolicy\b|policies|reputation|spamhaus|barracuda|cloudmark|\bdnsbl\b|\brbl\b|\bdmarc\b|\bspf\b|\bdkim\b|unauthenticated"
    r"|not authori[sz]ed|sender (?:address )?(?:was )?rejected|relay(?:ing)? (?:access )?(?:denied|not permitted)|unable to relay|poor standing|virus|malware|phish|suspicious|\bptr\b|reverse dns|\[bl\d|\btss\d|too many|rate limit|\(s\d{3,}\)|content rejected|message rejected",
    re.IGNORECASE,
)
_WAIT = re.compile(
    r"\b(?:in|after|for|within|least|wait)\s+(?:another\s+)?(\d{1,6})\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b",
    re.IGNORECASE,
)

_HARD_CODES = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.7.13"})
_SOFT_CODES = frozenset({"5.2.2", "5.2.3"})
_SENDER_CODES = frozenset({"5.1.7", "5.1.8"})
_OURS = frozenset({530, 534, 535, 538})
"""Codes that speak of the session or of our account, whatever command they answer."""


class Reply(msgspec.Struct):
    """One reply, its lines joined by spaces."""

    code: int
    text: str

    @property
    def good(self) -> bool:
        """Whether the command was taken."""
        return 200 <= self.code < 300

    @property
    def shown(self) -> str:
        """Code and text as an operator wants to read them."""
        return f"{self.code} {self.text}".strip()


@lru_cache(maxsize=256)
def enhanced_status(text: str) -> str | None:
    """Return the first RFC 3463 status in a reply's text, such as ``5.1.1``."""
    found = _ENHANCED.search(text)
    return found[1] if found else None


def classify(code: int, enhanced: str | None, text: str, phase: Phase) -> BounceClass:  # noqa: C901  (a table of rules)
    """Return the class of a permanent refusal (rules of the module's docstring)."""
    if _QUOTA.search(text):
        return "soft"
    if enhanced is not None and not enhanced.startswith("5."):
        enhanced = None
    if enhanced in _HARD_CODES:
        return "hard"
    if enhanced in _SOFT_CODES:
        return "soft"
    if enhanced in _SENDER_CODES or (enhanced is not None and enhanced.startswith("5.7.")):
        return "block"
    if enhanced == "5.2.1":
        return "hard" if _CLOSED.search(text) else "soft"
    if enhanced == "5.4.1" and "recipient address rejected" in text.lower():
        return "hard"  # how Office 365 says that nobody has this address
    if enhanced is not None and enhanced.startswith(("5.3.", "5.4.", "5.6.")):
        return "block" if _BLOCK.search(text) else "soft"
    if _BLOCK.search(text):
        return "block"
    if phase == "rcpt" and _NOBODY.search(text):
        return "hard"
    if phase == "content" and code != 552:
        return "block"  # the address was fine, the letter was read and refused
    return "soft"


def wait_seconds(text: str) -> int | None:
    """Return the pause a temporary refusal asks for ("try again in 5 minutes"), at most a day."""
    found = _WAIT.search(text)
    if found is None:
        return None
    unit = found[2][0].lower()
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[unit]
    return min(seconds, LONGEST_WAIT) or None


def outcome(envelope: Envelope, reply: Reply, phase: Literal["mail", "rcpt", "data", "content"]) -> Outcome:
    """Return what this reply, given to this letter's command, made of the letter."""
    code, text = reply.code, reply.text[:LONGEST_REPLY]
    if phase == "content" and reply.good:
        return Outcome(envelope.delivery_id, "sent", code, enhanced_status(text), text, phase)
    enhanced = enhanced_status(text)
    too_big = phase == "mail" and (code == 552 or enhanced == "5.3.4")
    kind: Kind
    if code in _OURS or (phase == "mail" and not too_big):
        kind = "relay"
    elif 500 <= code < 600:
        kind = "refused"
    elif 400 <= code < 500:
        kind = "deferred"
    else:
        # A server that answers content with 1xx or 3xx has taken it or not; before the content nothing was sent.
        kind = "unknown" if phase == "content" else "relay"
    return Outcome(
        envelope.delivery_id,
        kind,
        code,
        enhanced,
        text,
        phase,
        bounce_class=classify(code, enhanced, text, phase) if kind == "refused" else None,
        retry_after=wait_seconds(text) if kind in {"deferred", "relay"} else None,
    )


@lru_cache(maxsize=256)
def split_line(line: bytes) -> tuple[int, bool, str] | None:
    """Return (code, whether more lines follow, text) of one line without its line end, or None when it is no reply."""
    code = line[:3]
    if len(line) < 3 or not code.isdigit() or line[3:4] not in {b"", b" ", b"-"}:
        return None
    number = int(code)
    if not 200 <= number < 600:
        return None
    return number, line[3:4] == b"-", line[4:].decode("utf-8", "replace").strip()
