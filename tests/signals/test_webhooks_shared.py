"""Postmark and Brevo: records as documented; neither signs, so a shared secret lets them in."""

import datetime as dt
import time

import pytest

from signals.webhooks_kit import add_source, events_of, fate, path_of, send_letters

PASSWORD = ("mailbase", "a-long-random-password")
NOW = dt.datetime.now(dt.UTC)
AT = NOW.strftime("%Y-%m-%dT%H:%M:%S.4160711Z")


@pytest.fixture
async def postmark(client):
    return await add_source(client, "postmark", token=PASSWORD[1])


@pytest.fixture
async def brevo(client):
    return await add_source(client, "brevo", secret=PASSWORD[1])


# ── Postmark ── https://postmarkapp.com/developer/webhooks/bounce-webhook


def record(letter, kind="Bounce", **more):
    """Return a record with our reference in its metadata."""
    return {
        "RecordType": kind,
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "ServerID": 23,
        "MessageStream": "outbound",
        "Tag": "Test",
        "Metadata": {"mailbase-ref": letter.bare_id},
        **more,
    }


def returned(letter, code, name, details="action: failed\r\n", **more):
    """Return a bounce of one type. https://postmarkapp.com/developer/api/bounce-api#bounce-types"""
    return record(
        letter,
        ID=692560173 + letter.id,
        Type=name,
        TypeCode=code,
        Name=name,
        Description="The server was unable to deliver your message.",
        Details=details,
        Email=letter.email,
        From="news@shop.example",
        BouncedAt=AT,
        DumpAvailable=True,
        Inactive=True,
        CanActivate=True,
        Subject="Fresh bread",
        **more,
    )


TYPES = [
    (1, "HardBounce", "", ("bounced", "hard", "bounced")),
    (
        1,
        "HardBounce",
        "smtp;550 5.1.1 The email account that you tried to reach does not exist",
        ("bounced", "hard", "bounced"),
    ),
    (
        1,
        "HardBounce",
        "smtp;550 5.7.1 Message rejected as spam by Content Filtering",
        ("bounced", "block", "active"),
    ),
    (2, "Transient", "smtp;451 4.7.1 Greylisted", ("bounced", "soft", "active")),
    (16, "Unsubscribe", "", ("sent", None, "unsubscribed")),
    (32, "Subscribe", "", ("sent", None, "active")),
    (64, "AutoResponder", "", ("sent", None, "active")),
    (128, "AddressChange", "", ("sent", None, "active")),
    (256, "DnsError", "", ("bounced", "soft", "active")),
    (512, "SpamNotification", "", ("bounced", "block", "active")),
    (1024, "OpenRelayTest", "", ("sent", None, "active")),
    (2048, "Unknown", "", ("bounced", "soft", "active")),
    (4096, "SoftBounce", "", ("bounced", "soft", "active")),
    (8192, "VirusNotification", "", ("bounced", "block", "active")),
    (16384, "ChallengeVerification", "", ("sent", None, "active")),
    (100000, "BadEmailAddress", "", ("bounced", "hard", "bounced")),
    (100001, "SpamComplaint", "", ("sent", None, "complained")),
    (100002, "ManuallyDeactivated", "", ("bounced", "block", "active")),
    (100003, "Unconfirmed", "", ("sent", None, "active")),
    (100006, "Blocked", "", ("bounced", "block", "active")),
    (100007, "SMTPApiError", "", ("bounced", "block", "active")),
    (100008, "InboundError", "", ("sent", None, "active")),
    (100009, "DMARCPolicy", "", ("bounced", "block", "active")),
    (100010, "TemplateRenderingFailed", "", ("bounced", "block", "active")),
    (123456, "OfTomorrow", "", ("sent", None, "active")),
]


async def test_what_postmarks_types_mean(anonymous, client, postmark, db):
    """Of all types two say that nobody is there; policy, spam and DMARC never touch the person; automatic answers are no bounces."""
    _, letters = await send_letters(db, letters=len(TYPES))

    for letter, (code, name, details, expected) in zip(letters, TYPES, strict=True):
        body = returned(letter, code, name, details)
        answer = await anonymous.post(path_of(postmark), json=body, auth=PASSWORD)
        assert (answer.status_code, answer.json()) == (200, {"events": 1, "new": 1})
        assert await fate(db, letter) == expected, body
    assert [event["kind"] for event in await events_of(client, postmark)] == [name for _, name, _, _ in TYPES[::-1]]


RECORDS = [
    (
        "SpamComplaint",
        {"ID": 42, "Type": "SpamComplaint", "TypeCode": 100001, "BouncedAt": AT},
        ("sent", None, "complained"),
    ),
    ("Delivery", {"DeliveredAt": AT, "Details": "Test delivery webhook details"}, ("sent", None, "active")),
    ("Open", {"FirstOpen": True, "ReceivedAt": AT}, ("sent", None, "active")),
    ("Click", {"OriginalLink": "https://shop.example", "ReceivedAt": AT}, ("sent", None, "active")),
    (
        "SubscriptionChange",
        {"ChangedAt": AT, "Origin": "Recipient", "SuppressSending": True, "SuppressionReason": "ManualSuppression"},
        ("sent", None, "unsubscribed"),
    ),
    (
        "SubscriptionChange",
        {"ChangedAt": AT, "Origin": "Recipient", "SuppressSending": True, "SuppressionReason": "HardBounce"},
        ("sent", None, "active"),
    ),
    (
        "SubscriptionChange",
        {"ChangedAt": AT, "Origin": "Customer", "SuppressSending": True, "SuppressionReason": "ManualSuppression"},
        ("sent", None, "active"),
    ),
    (
        "SubscriptionChange",
        {"ChangedAt": AT, "Origin": "Recipient", "SuppressSending": False, "SuppressionReason": None},
        ("sent", None, "active"),
    ),
]


async def test_what_postmarks_other_records_mean(anonymous, postmark, db):
    """A complaint ends the person, the person's own wish is a wish; what comes as a record of its own is not counted twice."""
    _, letters = await send_letters(db, letters=len(RECORDS))

    for letter, (kind, more, expected) in zip(letters, RECORDS, strict=True):
        body = record(letter, kind, Recipient=letter.email, **more)
        for new in (1, 0):
            answer = await anonymous.post(path_of(postmark), json=body, auth=PASSWORD)
            assert answer.json() == {"events": 1, "new": new}
        assert await fate(db, letter) == expected, body


async def test_postmarks_letter_is_found(anonymous, postmark, db):
    """By our reference in the metadata, by our Message-ID in the returned letter, else by the address."""
    _, letters = await send_letters(db)
    one, two, three = (returned(letter, 1, "HardBounce") for letter in letters)
    one["Email"] = two["Email"] = "forwarded@elsewhere.example"
    two["Metadata"] = {}
    two["Content"] = (
        f"Received: by mx\r\n\r\n----\r\nMessage-ID: {letters[1].message_id}\r\nSubject: Fresh bread\r\n\r\nBread."
    )
    three["Metadata"] = None

    for body in (one, two, three):
        assert (await anonymous.post(path_of(postmark), json=body, auth=PASSWORD)).status_code == 200
    assert [await fate(db, letter) for letter in letters] == [("bounced", "hard", "bounced")] * 3


async def test_a_delivery_settles_a_doubt(anonymous, postmark, brevo, db):
    """A letter in doubt was sent after all, when the provider names it; a delivery that names no letter settles none."""
    _, (letter, other, third) = await send_letters(db, state="unknown")
    named = record(letter, "Delivery", Recipient=letter.email, DeliveredAt=AT)
    nameless = record(other, "Delivery", Recipient=other.email, DeliveredAt=AT, Metadata={})
    assert (await anonymous.post(path_of(postmark), json=named, auth=PASSWORD)).status_code == 200
    assert (await anonymous.post(path_of(postmark), json=nameless, auth=PASSWORD)).status_code == 200
    assert (await anonymous.post(path_of(brevo), json=event(third, "delivered"), auth=PASSWORD)).status_code == 200

    assert [(await fate(db, one))[0] for one in (letter, other, third)] == ["sent", "unknown", "sent"]


# ── Brevo ── https://developers.brevo.com/docs/transactional-webhooks


def event(letter, name, **more):
    """Return an event with the attributes of its documented example."""
    return {
        "event": name,
        "email": letter.email,
        "id": 26224,
        "date": "2026-10-09 00:00:00",
        "ts": int(time.time()),
        "message-id": "<202610090000.5787683@smtp-relay.mailin.fr>",
        "ts_event": int(time.time()),
        "subject": "Fresh bread",
        "X-Mailin-custom": f"mailbase_ref:{letter.bare_id}|other:1",
        "sending_ip": "185.41.28.109",
        "template_id": 22,
        "ts_epoch": int(time.time() * 1000),
        "tags": ["newsletter"],
        **more,
    }


EVENTS = [
    ("hard_bounce", "550 5.1.1 mailbox does not exist", ("bounced", "hard", "bounced")),
    ("hard_bounce", "server is down", ("bounced", "hard", "bounced")),
    ("hard_bounce", "554 5.7.1 blocked using Spamhaus", ("bounced", "block", "active")),
    ("soft_bounce", "server is down", ("bounced", "soft", "active")),
    ("invalid_email", None, ("bounced", "hard", "bounced")),
    ("blocked", "blocked : due to blacklist user", ("bounced", "block", "active")),
    ("error", "Error in SMTP transaction", ("bounced", "block", "active")),
    ("deferred", "spam content", ("sent", None, "active")),
    ("delivered", None, ("sent", None, "active")),
    ("request", None, ("sent", None, "active")),
    ("spam", None, ("sent", None, "complained")),
    ("complaint", None, ("sent", None, "complained")),
    ("unsubscribed", None, ("sent", None, "unsubscribed")),
    ("unique_opened", None, ("sent", None, "active")),
    ("proxy_open", None, ("sent", None, "active")),
    ("unique_proxy_open", None, ("sent", None, "active")),
    ("click", None, ("sent", None, "active")),
    ("list_addition", None, ("sent", None, "active")),
]


async def test_what_brevos_events_mean(anonymous, client, brevo, db):
    """Hard bounces and invalid addresses end a person, blocked and errors do not; opens, of proxies too, are only kept."""
    _, letters = await send_letters(db, letters=len(EVENTS))

    for letter, (name, reason, expected) in zip(letters, EVENTS, strict=True):
        body = event(letter, name, **({"reason": reason} if reason else {}))
        assert (await anonymous.post(path_of(brevo), json=body, auth=PASSWORD)).json() == {"events": 1, "new": 1}
        assert await fate(db, letter) == expected, body
        kept = (await events_of(client, brevo, limit=1))[0]
        assert (kept["kind"], kept["raw"]) == (name, body)
        assert abs(dt.datetime.fromisoformat(kept["at"]) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


async def test_brevos_batch(anonymous, brevo, db):
    """A batch is as many events; the webhook's id, which all of them share, makes none of them a duplicate."""
    _, letters = await send_letters(db)
    batch = [event(letter, "hard_bounce") for letter in letters]

    assert (await anonymous.post(path_of(brevo), json=batch, auth=PASSWORD)).json() == {"events": 3, "new": 3}
    assert (await anonymous.post(path_of(brevo), json=batch[1], auth=PASSWORD)).json() == {"events": 1, "new": 0}
    assert [await fate(db, letter) for letter in letters] == [("bounced", "hard", "bounced")] * 3
