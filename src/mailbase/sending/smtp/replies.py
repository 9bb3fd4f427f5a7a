"""What a mail server's reply means for one letter: its enhanced status, its bounce class and reason, when to come back.

Which words mean what is said once, in ``reports``: the same rules read the mails that come back.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from mailbase.reports.judge import judge
from mailbase.sending.outcomes import BounceClass, Envelope, Kind, Outcome, Phase

LONGEST_LINE = 4096  # RFC 5321 § 4.5.3.1.5 says 512; long URLs in refusals are common
MOST_LINES = 128
LONGEST_REPLY = 1000
LONGEST_WAIT = 24 * 3600

_ENHANCED = re.compile(r"(?:^|[\s\-#(])([245]\.\d{1,3}\.\d{1,3})(?=$|[\s:;,.)\]\-])")
# What took so long and failed is no pause: "timeout after 30 s".
_PAUSE = (
    r"(?<!timeout )(?<!time-out )(?<!timed out )(?<!failed )(?<!lost )(?<!answer )(?<!reply )(?<!response )"
    r"\b(?:in|after|for|least|wait)\s+(?:(?:another|about|approximately)\s+)?"
)
_WAIT = re.compile(
    rf"{_PAUSE}(\d{{1,6}})\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b"
    r"(?:,?\s+(?:and\s+)?(\d{1,2})\s*(seconds?|secs?|s|minutes?|mins?|m)\b)?",
    re.IGNORECASE,
)
_CLOCK = re.compile(rf"{_PAUSE}(\d{{1,2}}):(\d\d):(\d\d)\b", re.IGNORECASE)  # milter-greylist's
_SECONDS = {"s": 1, "m": 60, "h": 3600}

_OURS = frozenset({530, 534, 535, 538})
"""Codes that speak of the session or of our account, whatever command they answer."""


class Reply(msgspec.Struct, frozen=True, gc=False):
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


_SENDER_STATUS = re.compile(r"[45]\.(1\.[78]|7\.(2\d|30|32|40|60|509|515))")
_SENDER_WORDS = re.compile(r"\b(sender|mail from|from address|return.path|envelope.from|identity)\b", re.IGNORECASE)
_CLIENT_WORDS = re.compile(
    r"\b(ip|client|host|blocked using|block ?list(ed)?|black ?list(ed)?|rbl|dnsbl|reputation)\b", re.IGNORECASE
)


def about_the_sender(code: int, enhanced: str | None, text: str) -> bool:
    """Tell a refusal at MAIL of who the letter is from, which another domain's letters would not get, from one of us."""
    if enhanced is not None and _SENDER_STATUS.fullmatch(enhanced):
        return True
    if code < 500 or _CLIENT_WORDS.search(text):
        return False
    return code == 553 or _SENDER_WORDS.search(text) is not None


_LOGIN_WORDS = re.compile(
    r"\bauth(entication|ori[sz]ation)?( is)? (required|needed|failed)\b|\brequires? (smtp )?auth|\bsmtp auth(entication)? in your\b"
    r"|\b(must|need to|have to|please) (first )?(be )?(authenticated?|log ?in|sign in)\b|\bauthenticate (first|before)\b"
    r"|\bnot (been )?(authenticated|logged in)\b|\bclient host (rejected(?!.{0,40}gr[ae]y)|\[[^\]]*\] blocked)"
    r"|\brelay(ing)?\b.{0,20}\b(denied|prohibited|refused|not (allowed|permitted|authori[sz]ed))\b"
    r"|\b(your ip( address)?|ip \S{3,40}|host) is not (allowed|permitted|authori[sz]ed) to (send|relay)\b"
    r"|\bnot (allowed|permitted|authori[sz]ed) to relay\b",
    re.IGNORECASE,
)
_DNS_WORDS = re.compile(r"\b(spf|dkim|dmarc)\b", re.IGNORECASE)


def denial(answer: Outcome) -> Outcome:
    """Return what a *relay's* answer to one letter is, given what it would be from the recipient's own server.

    Where it says that it does not relay for us (our login lapsed, our address is allowed no more) the letter is ``denied``: refused, or
    deferred, but the next one may fare better, and so may this one later. A server that speaks for itself never means us by that.
    """
    if answer.phase not in {"rcpt", "data", "content"} or answer.code < 400:
        return answer
    of_us = answer.kind == "relay" and answer.code in _OURS
    words = (
        answer.phase != "content"
        and answer.bounce_class != "hard"
        and _LOGIN_WORDS.search(answer.reply) is not None
        and _DNS_WORDS.search(answer.reply) is None
        and not (answer.enhanced and _SENDER_STATUS.fullmatch(answer.enhanced))
    )
    if not of_us and (answer.kind not in {"refused", "deferred"} or not (words or answer.reason == "relay_denied")):
        return answer
    kind: Kind = "deferred" if answer.kind == "deferred" else "refused"
    return msgspec.structs.replace(
        answer, kind=kind, denied=True, reason="relay_denied", bounce_class="block" if kind == "refused" else None
    )


@lru_cache(maxsize=256)
def enhanced_status(text: str) -> str | None:
    """Return the first RFC 3463 status in a reply's text, such as ``5.1.1``."""
    found = _ENHANCED.search(text)
    return found[1] if found else None


def classify(code: int, enhanced: str | None, text: str, phase: Phase) -> tuple[BounceClass, str]:
    """Return (class, reason) of a refusal: the rules for returned mails, and where in the conversation it came."""
    verdict = judge(code, enhanced, text)
    if verdict.reason == "uncategorized" and phase == "content" and code != 552:
        return "block", "policy_related"  # the address was fine, the letter was read and refused
    match verdict.cls:
        case "hard" | "block":
            return verdict.cls, verdict.reason
        case _:
            return "soft", verdict.reason


def wait_seconds(text: str) -> int | None:
    """Return the pause a temporary refusal asks for ("try again in 5 minutes"), at most a day."""
    if clock := _CLOCK.search(text):
        hours, minutes, seconds = (int(part) for part in clock.groups())
        return min(hours * 3600 + minutes * 60 + seconds, LONGEST_WAIT) or None
    found = _WAIT.search(text)
    if found is None:
        return None
    seconds = int(found[1]) * _SECONDS[found[2][0].lower()]
    if found[3]:
        seconds += int(found[3]) * _SECONDS[found[4][0].lower()]
    return min(seconds, LONGEST_WAIT) or None


def outcome(envelope: Envelope, reply: Reply, phase: Literal["mail", "rcpt", "data", "content"]) -> Outcome:
    """Return what this reply, given to this letter's command, made of the letter."""
    code, text = reply.code, reply.text[:LONGEST_REPLY]
    if phase == "content" and reply.good:
        return Outcome(envelope.delivery_id, "sent", code, enhanced_status(text), text, phase)
    enhanced = enhanced_status(text)
    too_big = phase == "mail" and (code == 552 or enhanced == "5.3.4")
    kind: Kind
    if code in _OURS:
        kind = "relay"
    elif phase == "mail" and not too_big:
        ours = not about_the_sender(code, enhanced, text)
        kind = "relay" if ours or code == 421 else "sender" if code >= 500 else "deferred"
    elif 500 <= code < 600:
        kind = "refused"
    elif 400 <= code < 500:
        kind = "deferred"
    else:
        # A server that answers content with 1xx or 3xx has taken it or not; before the content nothing was sent.
        kind = "unknown" if phase == "content" else "relay"
    bounce_class, reason = classify(code, enhanced, text, phase) if kind in {"refused", "deferred"} else (None, None)
    if kind == "sender":
        bounce_class, reason = "block", "sender_refused"
    return Outcome(
        envelope.delivery_id,
        kind,
        code,
        enhanced,
        text,
        phase,
        bounce_class=None if kind == "deferred" else bounce_class,
        reason=reason,
        retry_after=wait_seconds(text) if kind in {"deferred", "relay"} else None,
    )


@lru_cache(maxsize=256)
def split_line(line: bytes) -> tuple[Reply, bool] | None:
    """Return what one line without its LF says, and whether more lines follow; None when it is no reply."""
    line = line.removesuffix(b"\r")
    code = line[:3]
    if len(line) < 3 or not code.isdigit() or line[3:4] not in {b"", b" ", b"-"}:
        return None
    number = int(code)
    if not 200 <= number < 600:
        return None
    return Reply(number, line[4:].decode("utf-8", "replace").strip()), line[3:4] == b"-"
