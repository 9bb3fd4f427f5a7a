"""Brevo: one event a request, or a batch; without a signature: a password in the address, a bearer token, or a header of one's own.

Sources: developers.brevo.com/docs/transactional-webhooks, …/secured-webhooks, …/batch-webhooks.
Brevo gives letters a Message-ID of its own. Ours is read from ``X-Mailin-custom``, the one header it reports back, and from
``message-id`` where it was kept; else the address tells. ``id`` is the webhook's, not the event's; ``ts_epoch`` is the one reliable time.
"""

from collections.abc import Mapping
from typing import Any, Final

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
    json_body,
    member,
    moment,
    need_secret,
    text,
    told,
    verify_shared,
)

PLAIN: Final[Mapping[str, Kind]] = {
    "delivered": "delivered",
    "deferred": "deferred",
    "spam": "complaint",
    "complaint": "complaint",
    "unsubscribe": "unsubscribe",
    "unsubscribed": "unsubscribe",
}
BOUNCES: Final[Mapping[str, tuple[Class, str]]] = {
    "hard_bounce": ("hard", "uncategorized"),
    "soft_bounce": ("soft", "uncategorized"),
    "invalid_email": ("hard", "invalid_recipient"),
    "blocked": ("block", SUPPRESSED),
    "error": ("block", "policy_related"),
}
"""Everything else (request, opens of people and of proxies, clicks) is only kept: mailbase counts those itself."""
IDENTITY: Final = ("event", "email", "message-id", "ts_epoch", "ts_event", "link")


def check(secret: str, _topic_arn: str) -> None:
    """Refuse an empty secret.

    Raises:
        Invalid: ``secret_missing``.

    """
    need_secret(secret)


async def read(incoming: Incoming, trust: Trust, _desk: Desk) -> Reading:
    """Verify a request and return its events.

    Raises:
        Unauthorized: the secret is not in it.
        Malformed: no JSON.

    """
    verify_shared(incoming, trust.secret)
    body = json_body(incoming.body)
    batch = member(body, "events")
    found = body if isinstance(body, list) else batch if isinstance(batch, list) else [body]
    return Reading([_event(one) for one in found])


def _event(raw: Any) -> Event:
    event, email, at = text(member(raw, "event")), address(member(raw, "email")), _time(raw)
    known = {name: member(raw, name) for name in IDENTITY}
    return Event(
        key=content_key(known if known["message-id"] and at else raw),
        kind=event or "unknown",
        raw=raw,
        email=email,
        at=at,
        refs=(text(member(raw, "X-Mailin-custom")), text(member(raw, "message-id"))),
        feedback=_feedback(raw, event, email),
    )


def _time(raw: Any) -> Any:
    return moment(member(raw, "ts_epoch")) or moment(member(raw, "ts_event"))


def _feedback(raw: Any, event: str, email: str | None) -> Feedback | None:
    if event in PLAIN:
        return told("brevo", PLAIN[event], email, _time(raw))
    if event not in BOUNCES:
        return None
    cls, reason = BOUNCES[event]
    return bounce("brevo", cls, reason, email=email, at=_time(raw), reply=text(member(raw, "reason")))
