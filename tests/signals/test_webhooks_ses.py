"""Amazon SES: messages as documented, signed as SNS signs them; the certificate comes from a real TLS server."""

import datetime as dt
import json

import pytest

from api_routes import assert_problem
from signals.webhooks_kit import CERTIFICATE_PATH, TOPIC, Amazon, add_source, events_of, fate, path_of, send_letters

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
async def amazon(app):
    """Amazon, as far as this application can see."""
    stand_in = Amazon()
    async with stand_in.running() as outgoing:
        app.state.outgoing = outgoing
        yield stand_in


@pytest.fixture
async def source(client):
    return await add_source(client, "ses", topic_arn=TOPIC)


async def post(anonymous, source, envelope):
    """Post as SNS does: JSON under a plain text type."""
    headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": str(envelope.get("Type", ""))}
    return await anonymous.post(path_of(source), content=json.dumps(envelope), headers=headers)


def mail(letter):
    """Return the mail object. https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html#mail-object"""
    return {
        "timestamp": "2026-03-11T14:59:38.237Z",
        "messageId": f"0100017{letter.id:04d}-3fa9-4bd0-b53c-000000",
        "source": "news@shop.example",
        "sourceArn": "arn:aws:ses:us-east-1:123456789012:identity/shop.example",
        "sourceIp": "127.0.3.0",
        "sendingAccountId": "123456789012",
        "destination": [letter.email],
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": '"Shop" <news@shop.example>'},
            {"name": "Message-ID", "value": letter.message_id},
        ],
        "commonHeaders": {"from": ["Shop <news@shop.example>"], "messageId": letter.message_id, "subject": "Hello"},
    }


def bounce(letter, kind="Permanent", sub="General", *, field="notificationType", **recipient):
    """Return a bounce. https://docs.aws.amazon.com/ses/latest/dg/notification-examples.html#notification-examples-bounce"""
    return {
        field: "Bounce",
        "bounce": {
            "bounceType": kind,
            "reportingMTA": "dns; email.example.com",
            "bouncedRecipients": [{"emailAddress": letter.email, "action": "failed", **recipient}],
            "bounceSubType": sub,
            "timestamp": NOW.strftime("%Y-%m-%dT%H:%M:%S.237Z"),
            "feedbackId": f"00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa{letter.id:04d}-000000",
            "remoteMtaIp": "127.0.2.0",
        },
        "mail": mail(letter),
    }


def complaint(letter, **more):
    """Return a complaint. https://docs.aws.amazon.com/ses/latest/dg/notification-examples.html#notification-examples-complaint"""
    return {
        "eventType": "Complaint",
        "complaint": {
            "userAgent": "AnyCompany Feedback Loop (V0.01)",
            "complainedRecipients": [{"emailAddress": letter.email}],
            "complaintFeedbackType": "abuse",
            "complaintSubType": None,
            "arrivalDate": "2026-03-11T14:59:38.237Z",
            "timestamp": NOW.strftime("%Y-%m-%dT%H:%M:%S.237Z"),
            "feedbackId": f"000001378603177f-18c07c78-fa81-4a58-9dd1-{letter.id:012d}-000000",
            **more,
        },
        "mail": mail(letter),
    }


async def test_both_signature_versions_are_verified(anonymous, amazon, source, db):
    """SHA-1 and SHA-256 signatures, with and without a subject, are believed; the certificate is fetched once."""
    _, (letter, other, third) = await send_letters(db)

    said = bounce(letter, status="5.1.1", diagnosticCode="smtp; 550 5.1.1 <x>... User")
    first, third_one = amazon.message(said, version="1"), amazon.message(bounce(third), version="2")
    second = amazon.message(bounce(other), version="1", Subject="Amazon SES Email Event Notification")
    for envelope in (first, second, third_one):
        answer = await post(anonymous, source, envelope)
        assert (answer.status_code, answer.json()) == (200, {"events": 1, "new": 1})

    assert [await fate(db, one) for one in (letter, other, third)] == [("bounced", "hard", "bounced")] * 3
    row = await db.fetchrow(
        "SELECT class, reason, status, reply, reporting_mta FROM bounces WHERE delivery_id = $1", letter.id
    )
    assert tuple(row) == ("hard", "invalid_recipient", "5.1.1", "smtp; 550 5.1.1 <x>... User", "email.example.com")
    assert amazon.asked == [CERTIFICATE_PATH]


async def test_what_amazon_did_not_sign_for_this_topic_is_refused(anonymous, amazon, source, db):
    """Another key, another topic, a changed word, an old or a future message, or no message at all: 401, and nothing is stored."""
    _, (letter, *_) = await send_letters(db)
    good = amazon.message(bounce(letter))
    elsewhere = "arn:aws:sns:us-east-1:999999999999:bounces"
    bad = [
        amazon.message(bounce(letter), sign=False),
        amazon.message(bounce(letter), topic=elsewhere),
        {**amazon.message(bounce(letter), topic=elsewhere), "TopicArn": TOPIC},
        {**good, "Message": json.dumps(complaint(letter))},
        {**good, "Type": "UnsubscribeConfirmation"},
        {**good, "SignatureVersion": "1"},
        {**good, "SignatureVersion": "3"},
        {**good, "SignatureVersion": ["2"]},
        {**good, "Signature": "bm8="},
        {**good, "Signature": None},
        {name: value for name, value in good.items() if name != "Signature"},
        amazon.message(bounce(letter), at=NOW - dt.timedelta(hours=2)),
        amazon.message(bounce(letter), at=NOW + dt.timedelta(hours=2)),
        {**good, "Timestamp": "yesterday"},
        {**good, "MessageId": 7},
        {**good, "Type": {"a": "b"}},
        bounce(letter),  # raw message delivery
        {},
    ]

    details = set()
    for envelope in bad:
        problem = assert_problem(await post(anonymous, source, envelope), 401, "unauthorized")
        details.add(problem["detail"])
    assert_problem(await anonymous.post(path_of(source), content=b"\xff{"), 401)

    assert len(details) == 1
    assert await db.fetchval("SELECT count(*) FROM signal_events") == 0
    assert await fate(db, letter) == ("sent", None, "active")
    assert (await post(anonymous, source, good)).status_code == 200


FOREIGN = [
    "http://sns.us-east-1.amazonaws.com" + CERTIFICATE_PATH,
    "https://sns.us-east-1.amazonaws.com.evil.example" + CERTIFICATE_PATH,
    "https://evil.example/sns.us-east-1.amazonaws.com" + CERTIFICATE_PATH,
    "https://sns.us-east-1.amazonaws.com@evil.example" + CERTIFICATE_PATH,
    "https://sns.us-east-1.amazonaws.com:8443" + CERTIFICATE_PATH,
    "https://sns.us-east-1.s3.amazonaws.com" + CERTIFICATE_PATH,
    "https://my-bucket.amazonaws.com" + CERTIFICATE_PATH,
    "https://sns.us-east-1.amazonaws.com/x" + CERTIFICATE_PATH,
    "https://sns.us-east-1.amazonaws.com/other.pem",
    "https://sns.us-east-1.amazonaws.com" + CERTIFICATE_PATH + "?x=.pem",
    "https://sns.us-east-1.amazonaws.com" + CERTIFICATE_PATH + "\n",
    "file:///etc/passwd",
    "",
    7,
]


async def test_only_amazons_certificates_are_fetched(anonymous, amazon, source, db):
    """A certificate's address that is not exactly Amazon's is refused without asking anybody."""
    _, (letter, *_) = await send_letters(db)

    for url in FOREIGN:
        assert_problem(await post(anonymous, source, {**amazon.message(bounce(letter)), "SigningCertURL": url}), 401)
    assert amazon.asked == []


async def test_an_expired_certificate_signs_nothing(anonymous, amazon, source, db):
    """A certificate past its time is no certificate; neither is something else at its address."""
    _, (letter, *_) = await send_letters(db)
    amazon.expire()
    assert_problem(await post(anonymous, source, amazon.message(bounce(letter))), 401)

    amazon.answers[CERTIFICATE_PATH.replace("0123", "4567")] = (200, b"<html>")
    envelope = amazon.message(bounce(letter))
    envelope["SigningCertURL"] = envelope["SigningCertURL"].replace("0123", "4567")
    assert_problem(await post(anonymous, source, envelope), 401)


async def test_a_certificate_that_cannot_be_fetched_is_asked_for_again(anonymous, amazon, source, db):
    """While Amazon does not answer, the request is put off (503), not refused; later it is taken."""
    _, (letter, *_) = await send_letters(db)
    envelope = amazon.message(bounce(letter))
    amazon.answers[CERTIFICATE_PATH] = (500, b"")
    assert_problem(await post(anonymous, source, envelope), 503, "unavailable")

    del amazon.answers[CERTIFICATE_PATH]
    assert (await post(anonymous, source, envelope)).status_code == 200


async def test_a_subscription_of_the_known_topic_is_confirmed(anonymous, client, amazon, source):
    """The handshake is answered by visiting its address; its token is not kept. Nobody else's handshake is answered."""
    assert (await post(anonymous, source, amazon.handshake())).status_code == 200
    assert amazon.asked == [CERTIFICATE_PATH, f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"]
    (event,) = await events_of(client, source)
    assert (event["kind"], event["state"]) == ("SubscriptionConfirmation", "kept")
    assert "2336412f37" not in json.dumps(event)

    amazon.asked.clear()
    foreign = "arn:aws:sns:us-east-1:999999999999:bounces"
    confirm = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn="
    for envelope in (
        amazon.handshake(topic=foreign),
        amazon.handshake(SubscribeURL=confirm + foreign + "&Token=2336412f37"),
        amazon.handshake(SubscribeURL=confirm.replace("us-east-1", "eu-west-1") + TOPIC),
        amazon.handshake(SubscribeURL=f"https://evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}"),
        amazon.handshake(
            SubscribeURL=f"http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}"
        ),
        amazon.handshake(SubscribeURL=f"https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&TopicArn={TOPIC}"),
    ):
        assert_problem(await post(anonymous, source, envelope), 401)
    assert amazon.asked == []


async def test_a_confirmation_that_fails_is_tried_again(anonymous, client, amazon, source):
    """Amazon refusing the confirmation makes it a 503, so that SNS asks again; nothing is stored."""
    amazon.answers["/"] = (500, b"")
    assert_problem(await post(anonymous, source, amazon.handshake()), 503)
    assert await events_of(client, source) == []

    amazon.answers.clear()
    assert (await post(anonymous, source, amazon.handshake())).status_code == 200


async def test_words_that_are_not_json_are_kept(anonymous, client, amazon, source):
    """The first words after a subscription are plain text; they, an end of the subscription and odd JSON are kept."""
    words = "Successfully validated SNS topic for Amazon SES event publishing."
    for envelope in (amazon.message(words), amazon.handshake(kind="UnsubscribeConfirmation"), amazon.message("[1, 2]")):
        assert (await post(anonymous, source, envelope)).json() == {"events": 1, "new": 1}

    assert [(event["kind"], event["state"]) for event in await events_of(client, source)] == [
        ("text", "kept"),
        ("UnsubscribeConfirmation", "kept"),
        ("text", "kept"),
    ]
    assert (await events_of(client, source))[2]["raw"] == words
    assert amazon.asked == [CERTIFICATE_PATH]


BOUNCES = [
    # https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html#bounce-types
    ("Permanent", "General", "", "hard", "uncategorized", "bounced"),
    ("Permanent", "NoEmail", "", "hard", "invalid_recipient", "bounced"),
    ("Permanent", "Suppressed", "", "block", "provider_suppressed", "active"),
    (
        "Permanent",
        "OnAccountSuppressionList",
        "Amazon SES did not send the message to this address because it is on the suppression list",
        "block",
        "provider_suppressed",
        "active",
    ),
    (
        "Permanent",
        "General",
        "smtp; 550 5.7.1 Message rejected due to DMARC policy",
        "block",
        "authentication_failed",
        "active",
    ),
    ("Permanent", "General", "smtp; 552 5.2.2 mailbox full", "soft", "quota_issues", "active"),
    ("Permanent", "Unheard", "", "hard", "uncategorized", "bounced"),
    ("Transient", "General", "", "soft", "uncategorized", "active"),
    ("Transient", "General", "smtp; 550 5.1.1 user unknown", "soft", "uncategorized", "active"),
    ("Transient", "MailboxFull", "", "soft", "quota_issues", "active"),
    ("Transient", "MessageTooLarge", "", "soft", "message_too_large", "active"),
    ("Transient", "ContentRejected", "", "block", "spam_content", "active"),
    ("Transient", "AttachmentRejected", "", "block", "prohibited_attachment", "active"),
    ("Undetermined", "Undetermined", "", "soft", "uncategorized", "active"),
]


async def test_what_a_bounce_means(anonymous, amazon, source, db):
    """Type and subtype tell the class, the server's own words may make it milder; only hard ends a person."""
    _, letters = await send_letters(db, letters=len(BOUNCES))

    for letter, (kind, sub, said, cls, reason, status) in zip(letters, BOUNCES, strict=True):
        extra = {"diagnosticCode": said} if said else {}
        assert (await post(anonymous, source, amazon.message(bounce(letter, kind, sub, **extra)))).status_code == 200
        assert await fate(db, letter) == ("bounced", cls, status), (kind, sub, said)
        assert await db.fetchval("SELECT reason FROM bounces WHERE delivery_id = $1", letter.id) == reason


async def test_a_bounce_told_twice_is_one(anonymous, amazon, source, db):
    """The same bounce as a notification and as a published event, in two messages, counts once."""
    _, (letter, *_) = await send_letters(db)
    for field in ("notificationType", "eventType"):
        assert (await post(anonymous, source, amazon.message(bounce(letter, field=field)))).status_code == 200

    assert await db.fetchval("SELECT count(*) FROM bounces") == 1
    assert await db.fetchval("SELECT count(*) FROM signal_events") == 1


COMPLAINTS = [
    ({}, ("sent", None, "complained")),
    ({"complaintFeedbackType": None}, ("sent", None, "complained")),
    ({"complaintFeedbackType": "not-spam"}, ("sent", None, "active")),
    ({"complaintFeedbackType": "auth-failure"}, ("sent", None, "active")),
    ({"complaintSubType": "OnAccountSuppressionList"}, ("bounced", "block", "active")),
]


async def test_what_a_complaint_means(anonymous, amazon, source, db):
    """A complaint ends the person, through event publishing too; "not spam" and an old complaint on Amazon's own list do not."""
    _, letters = await send_letters(db, letters=len(COMPLAINTS))

    for letter, (more, expected) in zip(letters, COMPLAINTS, strict=True):
        assert (await post(anonymous, source, amazon.message(complaint(letter, **more)))).status_code == 200
        assert await fate(db, letter) == expected, more


async def test_every_recipient_counts(anonymous, amazon, source, db):
    """A message about several people, one with a display name, is one event each; the letter's own address is found by it."""
    _, (letter, other, third) = await send_letters(db)
    message = bounce(letter)
    message["bounce"]["bouncedRecipients"] = [{"emailAddress": f"Reader <{one.email}>"} for one in (other, third)]
    del message["mail"]["headers"], message["mail"]["commonHeaders"]

    assert (await post(anonymous, source, amazon.message(message))).json() == {"events": 2, "new": 2}
    assert await fate(db, letter) == ("sent", None, "active")
    assert await fate(db, other) == await fate(db, third) == ("bounced", "hard", "bounced")


async def test_the_other_events(anonymous, client, amazon, source, db):
    """Delivery settles a letter in doubt, a rejection is a block, leaving at Amazon is leaving; the rest is kept.

    https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html
    """
    _, (letter, other, third) = await send_letters(db, state="unknown")
    at = NOW.strftime("%Y-%m-%dT%H:%M:%S.237Z")
    messages = [
        {
            "eventType": "Delivery",
            "mail": mail(letter),
            "delivery": {"timestamp": at, "recipients": [letter.email], "smtpResponse": "250 2.6.0 Message received"},
        },
        {"eventType": "Reject", "mail": mail(other), "reject": {"reason": "Bad content"}},
        {
            "eventType": "Subscription",
            "mail": mail(third),
            "subscription": {
                "contactList": "L",
                "timestamp": at,
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True},
            },
        },
        {
            "eventType": "DeliveryDelay",
            "mail": mail(third),
            "deliveryDelay": {
                "timestamp": at,
                "delayType": "TransientCommunicationFailure",
                "delayedRecipients": [{"emailAddress": third.email, "status": "4.4.1"}],
            },
        },
        {
            "eventType": "Open",
            "mail": mail(third),
            "open": {"ipAddress": "192.0.2.1", "timestamp": at, "userAgent": "Mozilla/5.0"},
        },
        {"eventType": "Send", "mail": mail(third), "send": {}},
        {
            "notificationType": "AmazonSnsSubscriptionSucceeded",
            "message": "You have successfully subscribed your Amazon SNS topic",
        },
        {"eventType": "Bounce", "bounce": "none", "mail": 7},
    ]
    for message in messages:
        assert (await post(anonymous, source, amazon.message(message))).json() == {"events": 1, "new": 1}

    assert (await fate(db, letter))[0] == "sent"
    assert (await fate(db, other)) == ("bounced", "block", "active")
    assert (await fate(db, third))[2] == "unsubscribed"
    assert [(event["kind"], event["state"]) for event in await events_of(client, source)] == [
        ("Bounce", "kept"),
        ("AmazonSnsSubscriptionSucceeded", "kept"),
        ("Send", "kept"),
        ("Open", "kept"),
        ("DeliveryDelay", "kept"),
        ("Subscription", "applied"),
        ("Reject", "applied"),
        ("Delivery", "applied"),
    ]
