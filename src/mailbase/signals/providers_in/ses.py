"""Amazon SES: its notifications and published events, which arrive through Amazon SNS.

Sources: docs.aws.amazon.com/ses/latest/dg/notification-contents.html, …/event-publishing-retrieving-sns-contents.html.
``mail.headers`` and ``mail.commonHeaders.messageId`` hold the letter's own Message-ID, ``mail.messageId`` Amazon's.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

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
    many,
    member,
    moment,
    text,
    told,
)
from mailbase.signals.providers_in.sns import ARN, confirm, verify

BOUNCES: Final[Mapping[tuple[str, str], tuple[Class, str]]] = {
    ("Permanent", "General"): ("hard", "uncategorized"),
    ("Permanent", "NoEmail"): ("hard", "invalid_recipient"),
    ("Permanent", "Suppressed"): ("block", SUPPRESSED),
    ("Permanent", "OnAccountSuppressionList"): ("block", SUPPRESSED),
    ("Permanent", "UnsubscribedRecipient"): ("block", SUPPRESSED),
    ("Transient", "MailboxFull"): ("soft", "quota_issues"),
    ("Transient", "MessageTooLarge"): ("soft", "message_too_large"),
    ("Transient", "CustomTimeoutExceeded"): ("soft", "message_expired"),
    ("Transient", "ContentRejected"): ("block", "spam_content"),
    ("Transient", "AttachmentRejected"): ("block", "prohibited_attachment"),
}
"""What a bounce's type and subtype mean; any other permanent one is hard, any other at all soft."""


def check(_secret: str, topic_arn: str) -> None:
    """Refuse a topic that is none.

    Raises:
        Invalid: ``invalid_topic``.

    """
    if not ARN.fullmatch(topic_arn):
        raise Invalid.field(
            "topic_arn", "invalid_topic", "A topic is named like arn:aws:sns:eu-west-1:123456789012:name."
        )


async def read(incoming: Incoming, trust: Trust, desk: Desk) -> Reading:
    """Verify a request of SNS and return its events; a subscription of the known topic is confirmed.

    Raises:
        Unauthorized: not from this topic, not signed by Amazon, or old.
        Unavailable: Amazon's certificate or confirmation cannot be fetched just now.

    """
    envelope = await verify(incoming.body, trust, desk)
    kind = envelope["Type"]
    if kind != "Notification":
        if kind == "SubscriptionConfirmation":
            await confirm(envelope, trust, desk)
        return Reading(
            [Event(key=envelope["MessageId"], kind=kind, raw=_plain(envelope), at=moment(envelope["Timestamp"]))]
        )
    try:
        message = msgspec.json.decode(envelope["Message"])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        message = None  # the first words after a subscription are plain text
    if not isinstance(message, dict):
        return Reading(
            [Event(key=envelope["MessageId"], kind="text", raw=envelope["Message"], at=moment(envelope["Timestamp"]))]
        )
    return Reading(events(message, envelope["MessageId"]))


def _plain(envelope: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in envelope.items() if name not in {"Token", "SubscribeURL", "Signature"}}


def events(message: dict[str, Any], message_id: str) -> list[Event]:
    """Return the events of one SES message: one a recipient, or one that is only kept."""
    kind = text(message.get("eventType")) or text(message.get("notificationType")) or "unknown"
    mail = message.get("mail")
    headers = [one for one in many(member(mail, "headers")) if text(member(one, "name")).lower() == "message-id"]
    refs = tuple(
        text(one) for one in (member(mail, "commonHeaders", "messageId"), *(member(one, "value") for one in headers))
    )
    found = [
        Event(
            key=f"{kind}:{key}:{email}",
            kind=kind,
            raw=message,
            email=email,
            at=feedback.at,
            refs=refs,
            feedback=feedback,
        )
        for key, email, feedback in _reports(kind, message)
    ]
    return found or [Event(key=message_id, kind=kind, raw=message, at=moment(member(mail, "timestamp")), refs=refs)]


def _reports(kind: str, message: dict[str, Any]) -> list[tuple[str, str | None, Feedback]]:
    """Return (id, address, report) for each recipient; nothing for what we do not act on."""
    mail_id = text(member(message, "mail", "messageId"))
    to = many(member(message, "mail", "destination"))
    match kind:
        case "Bounce":
            part = message.get("bounce")
            return [
                (text(member(part, "feedbackId")) or mail_id, address(member(one, "emailAddress")), _bounce(part, one))
                for one in many(member(part, "bouncedRecipients"))
            ]
        case "Complaint":
            part = message.get("complaint")
            people = [address(member(one, "emailAddress")) for one in many(member(part, "complainedRecipients"))]
            reports = [
                (text(member(part, "feedbackId")) or mail_id, email, _complaint(part, email)) for email in people
            ]
            return [(key, email, report) for key, email, report in reports if report is not None]
        case "Reject":
            return [
                (mail_id, address(one), bounce("ses", "block", "virus_related", email=address(one), at=None))
                for one in to
            ]
        case "Subscription" if member(message, "subscription", "newTopicPreferences", "unsubscribeAll") is True:
            at = moment(member(message, "subscription", "timestamp"))
            return [(mail_id, address(one), told("ses", "unsubscribe", address(one), at)) for one in to]
        case "Delivery":
            at = moment(member(message, "delivery", "timestamp"))
            people = [address(one) for one in many(member(message, "delivery", "recipients"))]
            return [(mail_id, email, told("ses", "delivered", email, at)) for email in people]
        case "DeliveryDelay":
            part = message.get("deliveryDelay")
            at, people = moment(member(part, "timestamp")), many(member(part, "delayedRecipients"))
            addresses = [address(member(one, "emailAddress")) for one in people]
            return [(f"{mail_id}:{at}", email, told("ses", "deferred", email, at)) for email in addresses]
    return []


def _bounce(part: Any, recipient: Any) -> Feedback:
    kind = text(member(part, "bounceType"))
    cls, reason = BOUNCES.get(
        (kind, text(member(part, "bounceSubType"))), ("hard" if kind == "Permanent" else "soft", "uncategorized")
    )
    return bounce(
        "ses",
        cls,
        reason,
        email=address(member(recipient, "emailAddress")),
        at=moment(member(part, "timestamp")),
        reply=text(member(recipient, "diagnosticCode")),
        status=text(member(recipient, "status")),
        mta=text(member(part, "reportingMTA")).rpartition(";")[2].strip(),
    )


def _complaint(part: Any, email: str | None) -> Feedback | None:
    at = moment(member(part, "timestamp"))
    if member(part, "complaintSubType") == "OnAccountSuppressionList":  # an old complaint kept the letter from leaving
        return bounce("ses", "block", SUPPRESSED, email=email, at=at)
    what = member(part, "complaintFeedbackType")
    if what == "auth-failure":
        return None
    kind: Kind = "not_spam" if what == "not-spam" else "complaint"
    return told("ses", kind, email, at)
