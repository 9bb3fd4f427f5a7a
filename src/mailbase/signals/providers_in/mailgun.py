"""Mailgun: one event a request, signed over a timestamp and a token, not over the body.

The secret of the source is the HTTP webhook signing key. Because the signature does not cover the body, a token is good for the one
body it came with; another body with it is a forgery. Tokens are remembered longer than their timestamps are believed.

Sources: documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads, …/securing-webhooks,
help.mailgun.com/hc/en-us/articles/202236504-Webhooks (retries for eight hours).
``message.headers.message-id`` is the letter's own Message-ID, without its angle brackets; the user variable ``mailbase_ref`` is
read as well.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.signals.feedback import Class, Feedback, Kind
from mailbase.signals.providers_in.event import (
    SUPPRESSED,
    Desk,
    Event,
    Incoming,
    Reading,
    Trust,
    address,
    bounce,
    content_key,
    member,
    moment,
    need_secret,
    refuse,
    text,
    told,
)

FRESH: Final = timedelta(hours=12)
AHEAD: Final = timedelta(minutes=10)
PLAIN: Final[Mapping[str, Kind]] = {"delivered": "delivered", "complained": "complaint", "unsubscribed": "unsubscribe"}


def check(secret: str, _topic_arn: str) -> None:
    """Refuse an empty key.

    Raises:
        Invalid: ``secret_missing``.

    """
    need_secret(secret)


async def read(incoming: Incoming, trust: Trust, desk: Desk) -> Reading:
    """Verify a request and return its event.

    Raises:
        Unauthorized: the signature is not the key's, or its time is long past.

    """
    try:
        body = msgspec.json.decode(incoming.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise refuse() from None  # the signature is in the body
    stamp, token = member(body, "signature", "timestamp"), text(member(body, "signature", "token"))
    given = text(member(body, "signature", "signature")).lower()
    wanted = hmac.new(trust.secret.strip().encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    at = moment(int(stamp)) if isinstance(stamp, str) and stamp.isascii() and stamp.isdigit() else moment(stamp)
    fresh = at is not None and desk.now - FRESH <= at <= desk.now + AHEAD
    if not hmac.compare_digest(given.encode(), wanted.encode()) or not token or not fresh:
        raise refuse()
    return Reading([_event(body.get("event-data"))], token=token)


def _event(raw: Any) -> Event:
    at, email = moment(member(raw, "timestamp")), address(member(raw, "recipient"))
    name = text(member(raw, "id"))
    return Event(
        # The id is promised to be unique within a day only.
        key=f"{name}:{member(raw, 'timestamp')}" if name else content_key(raw),
        kind=text(member(raw, "event")) or "unknown",
        raw=raw,
        email=email,
        at=at,
        refs=(
            text(member(raw, "message", "headers", "message-id")),
            text(member(raw, "user-variables", "mailbase_ref")),
        ),
        feedback=_feedback(raw),
    )


def _feedback(raw: Any) -> Feedback | None:
    event, email, at = text(member(raw, "event")), address(member(raw, "recipient")), moment(member(raw, "timestamp"))
    if event in PLAIN:
        return told("mailgun", PLAIN[event], email, at)
    if event == "rejected":
        return bounce("mailgun", "block", "policy_related", email=email, at=at)
    if event != "failed":
        return None
    if member(raw, "severity") == "temporary":
        return told("mailgun", "deferred", email, at)
    status = member(raw, "delivery-status")
    reply = text(member(status, "message")) or text(member(status, "description"))
    code = member(status, "code")
    if isinstance(code, int) and 400 <= code < 600 and not code_of(reply):
        reply = f"{code} {reply}".strip()
    cls, reason = _class(text(member(raw, "reason")), text(member(status, "bounce-type")), reply)
    enhanced, mta = text(member(status, "enhanced-code")), text(member(status, "mx-host"))
    return bounce("mailgun", cls, reason, email=email, at=at, reply=reply, status=enhanced, mta=mta)


def _class(reason: str, bounce_type: str, reply: str) -> tuple[Class, str]:
    """Return what a permanent failure is, before the server's words are weighed."""
    if reason.startswith("suppress-"):
        return "block", SUPPRESSED
    if reason == "espblock":
        return "block", "policy_related"
    if reason == "old":
        return "soft", "message_expired"
    if bounce_type == "soft":
        return "soft", "uncategorized"
    if reason in {"bounce", "delayed-bounce", "hardfail"}:
        return "hard", "uncategorized"
    # Anything else is Mailgun's own conclusion: it is believed of the address where the words say so.
    verdict = weigh(code_of(reply) or 550, status_of(reply), reply, final=True)
    return ("hard", verdict.reason) if verdict.cls == "hard" else ("soft", "uncategorized")
