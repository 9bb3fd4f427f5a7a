"""Postmark: one record a request, without a signature; the secret stands in the address as a password, or in a header of one's own.

Sources: postmarkapp.com/developer/webhooks/webhooks-overview, …/bounce-webhook, …/spam-complaint-webhook, …/delivery-webhook,
…/subscription-change-webhook, postmarkapp.com/developer/api/bounce-api#bounce-types.
Postmark gives letters a Message-ID of its own and reports that. Ours is found in the metadata (the SMTP header
``X-PM-Metadata-mailbase-ref``) or in the returned letter (``X-PM-KeepID``, and bounces with their content); else the address tells.
"""

from collections.abc import Mapping
from typing import Any, Final

from mailbase.signals.feedback import Class, Feedback
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

TYPES: Final[Mapping[int, tuple[Class, str]]] = {
    1: ("hard", "uncategorized"),  # HardBounce
    2: ("soft", "transient_failure"),  # Transient
    256: ("soft", "dns_failure"),  # DnsError
    512: ("block", "spam_content"),  # SpamNotification
    2048: ("soft", "uncategorized"),  # Unknown
    4096: ("soft", "uncategorized"),  # SoftBounce
    8192: ("block", "virus_related"),  # VirusNotification
    100000: ("hard", "invalid_recipient"),  # BadEmailAddress
    100002: ("block", SUPPRESSED),  # ManuallyDeactivated
    100006: ("block", "policy_related"),  # Blocked
    100007: ("block", "policy_related"),  # SMTPApiError
    100009: ("block", "authentication_failed"),  # DMARCPolicy
    100010: ("block", "policy_related"),  # TemplateRenderingFailed
}
"""TypeCode; those that are not here are automatic answers, challenges and the like, and only kept."""
UNSUBSCRIBE: Final = 16
COMPLAINT: Final = 100001
TIMES: Final = ("BouncedAt", "DeliveredAt", "ChangedAt", "ReceivedAt")


def check(secret: str, _topic_arn: str) -> None:
    """Refuse an empty secret.

    Raises:
        Invalid: ``secret_missing``.

    """
    need_secret(secret)


async def read(incoming: Incoming, trust: Trust, _desk: Desk) -> Reading:
    """Verify a request and return its record.

    Raises:
        Unauthorized: the secret is not in it.
        Malformed: no JSON.

    """
    verify_shared(incoming, trust.secret)
    body = json_body(incoming.body)
    return Reading([_event(one) for one in (body if isinstance(body, list) else [body])])


def _event(raw: Any) -> Event:
    kind, name = text(member(raw, "RecordType")) or "unknown", member(raw, "ID")
    email = address(member(raw, "Email")) or address(member(raw, "Recipient"))
    at = next((found for field in TIMES if (found := moment(member(raw, field)))), None)
    metadata = member(raw, "Metadata")
    refs = [text(value) for value in metadata.values()] if isinstance(metadata, dict) else []
    return Event(
        key=f"{kind}:{name}"
        if isinstance(name, int) and name and kind in {"Bounce", "SpamComplaint"}
        else content_key(raw),
        kind=text(member(raw, "Type")) or kind if kind == "Bounce" else kind,
        raw=raw,
        email=email,
        at=at,
        refs=(*refs, text(member(raw, "Content"))),
        feedback=_feedback(raw, kind, email, at),
    )


def _feedback(raw: Any, kind: str, email: str | None, at: Any) -> Feedback | None:
    code = member(raw, "TypeCode")
    if kind == "SpamComplaint" or (kind == "Bounce" and code == COMPLAINT):
        return told("postmark", "complaint", email, at)
    if kind == "Delivery":
        return told("postmark", "delivered", email, at)
    if kind == "SubscriptionChange":
        # Of the reasons only an unsubscription is news: bounces and complaints come as records of their own.
        wish = member(raw, "Origin") == "Recipient" and member(raw, "SuppressionReason") == "ManualSuppression"
        return told("postmark", "unsubscribe", email, at) if wish and member(raw, "SuppressSending") is True else None
    if kind != "Bounce":
        return None
    if code == UNSUBSCRIBE:
        return told("postmark", "unsubscribe", email, at)
    if not isinstance(code, int) or code not in TYPES:
        return None
    cls, reason = TYPES[code]
    return bounce("postmark", cls, reason, email=email, at=at, reply=text(member(raw, "Details")))
