"""Twilio SendGrid: the signed Event Webhook, a batch of events in each request.

Signed with ECDSA on P-256 over the timestamp header and the raw body; the secret of the source is the verification key, base64 of
its SubjectPublicKeyInfo. The signature covers every event and every event has an id, so an old request is a duplicate at worst.

Sources: www.twilio.com/docs/sendgrid/for-developers/tracking-events/event,
…/getting-started-event-webhook-security-features, docs.sendgrid.com/glossary/drops.
``smtp-id`` is the letter's own Message-ID where the From domain is authenticated at SendGrid; the unique argument
``mailbase_ref`` is read as well.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailbase.errors import Invalid
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
    moment,
    need_secret,
    refuse,
    text,
    told,
)

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
PLAIN: Final[Mapping[str, Kind]] = {
    "delivered": "delivered",
    "deferred": "deferred",
    "spamreport": "complaint",
    "unsubscribe": "unsubscribe",
    "group_unsubscribe": "unsubscribe",
}
CLASSES: Final[Mapping[str, tuple[Class, str]]] = {
    "invalid address": ("hard", "invalid_recipient"),
    "mailbox unavailable": ("soft", "mailbox_unavailable"),
    "technical": ("soft", "transient_failure"),
    "technical failure": ("soft", "transient_failure"),
    "content": ("block", "spam_content"),
    "reputation": ("block", "spam_block"),
    "frequency/volume": ("block", "rate_limited"),
    "frequency or volume too high": ("block", "rate_limited"),
}
"""``bounce_classification``; anything else is what the server's words say, else hard."""
OWN_LISTS: Final = ("bounced address", "spam reporting address", "unsubscribed address")
"""Reasons of ``dropped`` that speak of an earlier event."""


def check(secret: str, _topic_arn: str) -> None:
    """Refuse what is not a verification key.

    Raises:
        Invalid: ``secret_missing``, ``invalid_key``.

    """
    need_secret(secret)
    if _key(secret) is None:
        raise Invalid.field(
            "secret", "invalid_key", "The verification key is base64 of a public key on P-256, as SendGrid shows it."
        )


def _key(secret: str) -> ec.EllipticCurvePublicKey | None:
    lines = [line.strip() for line in secret.strip().splitlines() if not line.startswith("-----")]
    try:
        key = load_der_public_key(b64decode("".join(lines), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None


async def read(incoming: Incoming, trust: Trust, _desk: Desk) -> Reading:
    """Verify a request and return its events.

    Raises:
        Unauthorized: the signature is not the key's.
        Malformed: signed, and no JSON.

    """
    key = _key(trust.secret)
    try:
        signature = b64decode(incoming.headers.get(SIGNATURE, ""), validate=True)
        signed = incoming.headers.get(TIMESTAMP, "").encode("latin-1") + incoming.body
        if key is None or not incoming.headers.get(TIMESTAMP):
            raise refuse()
        key.verify(signature, signed, ec.ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        raise refuse() from None
    body = json_body(incoming.body)
    return Reading([_event(one) for one in (body if isinstance(body, list) else [body])])


def _event(raw: Any) -> Event:
    fields: dict[str, Any] = raw if isinstance(raw, dict) else {}
    email, at = address(fields.get("email")), moment(fields.get("timestamp"))
    return Event(
        key=text(fields.get("sg_event_id")) or content_key(raw),
        kind=text(fields.get("event")) or "unknown",
        raw=raw,
        email=email,
        at=at,
        refs=(text(fields.get("smtp-id")), text(fields.get("mailbase_ref"))),
        feedback=_feedback(fields),
    )


def _feedback(fields: dict[str, Any]) -> Feedback | None:
    event, email, at = text(fields.get("event")), address(fields.get("email")), moment(fields.get("timestamp"))
    if event in PLAIN:
        return told("sendgrid", PLAIN[event], email, at)
    reason = text(fields.get("reason"))
    if event == "dropped":
        cls, why = _drop(reason)
        return bounce("sendgrid", cls, why, email=email, at=at)
    if event != "bounce":
        return None
    cls, why = CLASSES.get(text(fields.get("bounce_classification")).lower(), ("hard", "uncategorized"))
    if fields.get("type") == "blocked" and cls != "block":
        cls, why = "block", "policy_related"
    return bounce("sendgrid", cls, why, email=email, at=at, reply=reason, status=text(fields.get("status")))


def _drop(reason: str) -> tuple[Class, str]:
    said = reason.lower()
    if said.startswith("invalid") and "smtpapi" not in said:
        return "hard", "invalid_recipient"
    if said.startswith("spam content"):
        return "block", "spam_content"
    return "block", SUPPRESSED if said.startswith(OWN_LISTS) else "policy_related"
