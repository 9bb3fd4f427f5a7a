"""SendGrid and Mailgun: events as documented, signed with keys of the test's own."""

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from api_routes import assert_problem
from signals.webhooks_kit import SendGridKey, add_source, events_of, fate, mailgun_body, path_of, send_letters

# ── SendGrid ── https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event


@pytest.fixture
def key():
    return SendGridKey()


@pytest.fixture
async def sendgrid(client, key):
    return await add_source(client, "sendgrid", secret=key.public)


def grid(letter, event="bounce", **more):
    """Return one event with the properties of its documented example."""
    return {
        "email": letter.email,
        "timestamp": int(time.time()),
        "smtp-id": letter.message_id,
        "event": event,
        "category": ["cat facts"],
        "sg_event_id": f"{event}-{letter.id}-{more.get('reason', '')}",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        **more,
    }


async def test_sendgrids_signature_covers_time_and_body(anonymous, client, key, sendgrid, db):
    """The signature over timestamp and raw body lets in; any other key, body, time or curve is 401 and stores nothing."""
    _, (letter, *_) = await send_letters(db)
    body = json.dumps([grid(letter, reason="500 unknown recipient", status="5.0.0", type="bounce")]).encode()
    good = key.headers(body)
    name, stamp = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"

    for headers, content in (
        (SendGridKey().headers(body), body),
        (SendGridKey(ec.SECP384R1()).headers(body), body),
        (good, body + b" "),
        ({**good, stamp: "1600112503"}, body),
        ({**good, name: "AAAA"}, body),
        ({**good, name: "not base64 at all"}, body),
        ({**good, name: ""}, body),
        ({stamp: good[stamp]}, body),
        ({name: good[name]}, body),
        ({}, b"{"),
    ):
        assert_problem(await anonymous.post(path_of(sendgrid), content=content, headers=headers), 401, "unauthorized")
    assert await events_of(client, sendgrid) == []

    assert (await anonymous.post(path_of(sendgrid), content=body, headers=good)).json() == {"events": 1, "new": 1}
    assert (await anonymous.post(path_of(sendgrid), content=body, headers=good)).json() == {"events": 1, "new": 0}
    assert await fate(db, letter) == ("bounced", "hard", "bounced")
    assert_problem(await anonymous.post(path_of(sendgrid), content=b"{", headers=key.headers(b"{")), 400, "malformed")


async def test_sendgrids_key_may_be_pem(client, key):
    """The verification key is taken as SendGrid shows it, or between PEM lines; a key on another curve is not."""
    pem = f"-----BEGIN PUBLIC KEY-----\n{key.public[:64]}\n{key.public[64:]}\n-----END PUBLIC KEY-----\n"
    await add_source(client, "sendgrid", secret=pem)
    other = SendGridKey(ec.SECP384R1()).public
    answer = await client.post("/v1/signal-sources", json={"provider": "sendgrid", "secret": other})
    assert_problem(answer, 422, "invalid_key")


SENDGRIDS = [
    (
        "bounce",
        {
            "type": "bounce",
            "status": "5.1.1",
            "reason": "550 5.1.1 The email account that you tried to reach does not exist",
        },
        ("bounced", "hard", "bounced"),
    ),
    (
        "bounce",
        {
            "type": "bounce",
            "status": "5.0.0",
            "reason": "500 unknown recipient",
            "bounce_classification": "Invalid Address",
        },
        ("bounced", "hard", "bounced"),
    ),
    (
        "bounce",
        {
            "type": "bounce",
            "status": "5.2.2",
            "reason": "552 5.2.2 The email account that you tried to reach is over quota",
            "bounce_classification": "Mailbox Unavailable",
        },
        ("bounced", "soft", "active"),
    ),
    (
        "bounce",
        {
            "type": "bounce",
            "status": "5.7.1",
            "reason": "550 5.7.1 Our system has detected that this message is likely unsolicited mail",
            "bounce_classification": "Unclassified",
        },
        ("bounced", "block", "active"),
    ),
    (
        "bounce",
        {"type": "bounce", "bounce_classification": "Reputation", "reason": "blocked"},
        ("bounced", "block", "active"),
    ),
    ("bounce", {"type": "bounce", "bounce_classification": "Content"}, ("bounced", "block", "active")),
    ("bounce", {"type": "bounce", "bounce_classification": "Frequency/Volume"}, ("bounced", "block", "active")),
    ("bounce", {"type": "bounce", "bounce_classification": "Technical"}, ("bounced", "soft", "active")),
    (
        "bounce",
        {
            "type": "blocked",
            "status": "5.0.0",
            "reason": "550 5.1.1 no such user",
            "bounce_classification": "Invalid Address",
        },
        ("bounced", "block", "active"),
    ),
    (
        "bounce",
        {
            "type": "blocked",
            "reason": "unable to get mx info: failed to get IPs from PTR record",
            "bounce_classification": "Unclassified",
        },
        ("bounced", "block", "active"),
    ),
    ("dropped", {"reason": "Bounced Address", "status": "5.0.0"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Spam Reporting Address"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Unsubscribed Address"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Spam Content (if Spam Checker app is enabled)"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Invalid SMTPAPI header"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Recipient List over Package Quota"}, ("bounced", "block", "active")),
    ("dropped", {"reason": "Invalid"}, ("bounced", "hard", "bounced")),
    ("deferred", {"response": "400 try again later", "attempt": "5"}, ("sent", None, "active")),
    ("delivered", {"response": "250 OK"}, ("sent", None, "active")),
    ("processed", {}, ("sent", None, "active")),
    ("open", {"useragent": "Mozilla/4.0", "ip": "255.255.255.255"}, ("sent", None, "active")),
    ("click", {"url": "http://www.sendgrid.com/", "ip": "255.255.255.255"}, ("sent", None, "active")),
    ("spamreport", {}, ("sent", None, "complained")),
    ("unsubscribe", {}, ("sent", None, "unsubscribed")),
    ("group_unsubscribe", {"asm_group_id": 10}, ("sent", None, "unsubscribed")),
    ("group_resubscribe", {"asm_group_id": 10}, ("sent", None, "active")),
    ("account_status_change", {"type": "compliance_suspend"}, ("sent", None, "active")),
]


async def test_what_sendgrids_events_mean(anonymous, client, key, sendgrid, db):
    """Blocked and dropped never touch a person for the sender's sake; engagement is ours to count; every event is kept."""
    _, letters = await send_letters(db, letters=len(SENDGRIDS))
    cases = list(zip(letters, SENDGRIDS, strict=True))
    batch = [grid(letter, event, **more) for letter, (event, more, _) in cases]

    assert (await key.post(anonymous, sendgrid, batch)).json() == {"events": len(batch), "new": len(batch)}

    kept = {event["raw"]["email"]: event for event in await events_of(client, sendgrid, limit=200)}
    for letter, (event, more, expected) in cases:
        assert await fate(db, letter) == expected, (event, more)
        assert kept[letter.email]["kind"] == event
        assert kept[letter.email]["state"] == ("kept" if expected == ("sent", None, "active") else "applied")


async def test_sendgrids_letter_is_found(anonymous, key, sendgrid, db):
    """By smtp-id, by our unique argument where SendGrid replaced that, else by the address."""
    _, letters = await send_letters(db)
    one, two, three = (grid(letter, "spamreport") for letter in letters)
    one["email"] = "forwarded@elsewhere.example"
    two |= {
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "mailbase_ref": letters[1].bare_id,
        "email": "gone@elsewhere.example",
    }
    del three["smtp-id"]

    assert (await key.post(anonymous, sendgrid, [one, two, three])).json() == {"events": 3, "new": 3}
    assert [await fate(db, letter) for letter in letters] == [("sent", None, "complained")] * 3


# ── Mailgun ── https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads

SIGNING = "key-of-the-webhooks"


@pytest.fixture
async def mailgun(client):
    return await add_source(client, "mailgun", secret=SIGNING)


def gun(letter, event="failed", **more):
    """Return the event-data of a documented example."""
    return {
        "account": {"id": "1234567890303a4bd1f33898"},
        "domain": {"name": "shop.example"},
        "envelope": {"sender": "news@shop.example", "targets": letter.email, "transport": "smtp"},
        "event": event,
        "flags": {"is-authenticated": True, "is-test-mode": False},
        "id": "CCXMjJ7nQi2N3BPigGOdgQ",
        "log-level": "info",
        "message": {
            "headers": {"from": "Shop <news@shop.example>", "message-id": letter.bare_id, "to": letter.email},
            "size": 341,
        },
        "recipient": letter.email,
        "recipient-domain": "reader.example",
        "timestamp": time.time(),
        **more,
    }


def failed(letter, reason, message="", *, severity="permanent", code=550, **status):
    """Return a failure. https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads#permanent-failure"""
    delivery = {
        "attempt-no": 1,
        "code": code,
        "description": "",
        "message": message,
        "mx-host": "mx.reader.example",
        **status,
    }
    return gun(letter, "failed", severity=severity, reason=reason, **{"delivery-status": delivery})


MAILGUNS = [
    (
        lambda x: failed(
            x,
            "bounce",
            "5.1.1 The email account that you tried to reach does not exist",
            **{"bounce-type": "hard", "enhanced-code": "5.1.1"},
        ),
        ("bounced", "hard", "bounced"),
        "invalid_recipient",
    ),
    (
        lambda x: failed(x, "bounce", "5.7.1 Message rejected as spam", **{"bounce-type": "hard"}),
        ("bounced", "block", "active"),
        "spam_content",
    ),
    (lambda x: failed(x, "bounce", "5.2.2 mailbox full", code=552), ("bounced", "soft", "active"), "quota_issues"),
    (lambda x: failed(x, "generic", "No MX for reader.example", code=498), ("bounced", "soft", "active"), None),
    (lambda x: failed(x, "generic", "no such user here"), ("bounced", "hard", "bounced"), "invalid_recipient"),
    (lambda x: failed(x, "generic", "", code=0), ("bounced", "soft", "active"), "uncategorized"),
    (lambda x: failed(x, "old", "Too old", code=602), ("bounced", "soft", "active"), None),
    (lambda x: failed(x, "espblock", "550 5.7.1 blocked", code=550), ("bounced", "block", "active"), None),
    (
        lambda x: failed(
            x, "suppress-bounce", "", code=605, description="Not delivering to previously bounced address"
        ),
        ("bounced", "block", "active"),
        "provider_suppressed",
    ),
    (
        lambda x: failed(x, "suppress-unsubscribe", "", code=606),
        ("bounced", "block", "active"),
        "provider_suppressed",
    ),
    (
        lambda x: failed(x, "suppress-complaint", "", code=607),
        ("bounced", "block", "active"),
        "provider_suppressed",
    ),
    (
        lambda x: failed(x, "generic", "try again later", severity="temporary", code=451),
        ("sent", None, "active"),
        None,
    ),
    (
        lambda x: gun(
            x, "rejected", reject={"reason": "Sandbox subdomains are for test purposes only.", "description": ""}
        ),
        ("bounced", "block", "active"),
        "policy_related",
    ),
    (lambda x: gun(x, "complained"), ("sent", None, "complained"), None),
    (lambda x: gun(x, "unsubscribed", **{"client-info": {"bot": ""}}), ("sent", None, "unsubscribed"), None),
    (
        lambda x: gun(x, "delivered", **{"delivery-status": {"code": 250, "message": "OK"}}),
        ("sent", None, "active"),
        None,
    ),
    (lambda x: gun(x, "opened", **{"client-info": {"bot": "apple"}}), ("sent", None, "active"), None),
    (lambda x: gun(x, "clicked", url="https://shop.example"), ("sent", None, "active"), None),
    (lambda x: gun(x, "accepted"), ("sent", None, "active"), None),
]


async def test_what_mailguns_events_mean(anonymous, client, mailgun, db):
    """A permanent failure is hard unless Mailgun's own lists or the server's words say otherwise; a temporary one is none."""
    _, letters = await send_letters(db, letters=len(MAILGUNS))

    for letter, (event, expected, reason) in zip(letters, MAILGUNS, strict=True):
        body = mailgun_body(SIGNING, event(letter), token=f"{letter.id:050d}")
        answer = await anonymous.post(path_of(mailgun), json=body)
        assert (answer.status_code, answer.json()) == (200, {"events": 1, "new": 1})
        assert await fate(db, letter) == expected, body
        if reason is not None:
            assert await db.fetchval("SELECT reason FROM bounces WHERE delivery_id = $1", letter.id) == reason
    assert len(await events_of(client, mailgun)) == len(MAILGUNS)


async def test_mailguns_signature_and_its_age(anonymous, client, mailgun, db):
    """Another key, a changed token, yesterday's or tomorrow's time, no signature or no JSON: 401, and nothing is stored."""
    _, (letter, *_) = await send_letters(db)
    good = mailgun_body(SIGNING, gun(letter, "complained"))
    for body in (
        mailgun_body("another key", gun(letter, "complained")),
        {**good, "signature": {**good["signature"], "token": "x"}},
        {**good, "signature": {**good["signature"], "signature": ""}},
        {**good, "signature": {**good["signature"], "signature": "é"}},
        {**good, "signature": "none"},
        {"event-data": good["event-data"]},
        mailgun_body(SIGNING, gun(letter, "complained"), at=time.time() - 86400),
        mailgun_body(SIGNING, gun(letter, "complained"), at=time.time() + 3600),
        mailgun_body(SIGNING, gun(letter, "complained"), token=""),
        [good],
        None,
    ):
        assert_problem(await anonymous.post(path_of(mailgun), json=body), 401, "unauthorized")
    assert_problem(await anonymous.post(path_of(mailgun), content=b"{"), 401, "unauthorized")

    assert await events_of(client, mailgun) == []
    assert await db.fetchval("SELECT count(*) FROM signal_tokens") == 0
    assert await fate(db, letter) == ("sent", None, "active")


async def test_a_token_of_mailguns_is_good_for_one_body(anonymous, client, mailgun, db):
    """The same body again is a duplicate; another body under a signature that was seen is a forgery."""
    _, (letter, other, _) = await send_letters(db)
    first = mailgun_body(SIGNING, gun(letter, "complained"))
    forged = {"signature": first["signature"], "event-data": gun(other, "complained", id="another")}

    assert (await anonymous.post(path_of(mailgun), json=first)).json() == {"events": 1, "new": 1}
    assert (await anonymous.post(path_of(mailgun), json=first)).json() == {"events": 1, "new": 0}
    assert_problem(await anonymous.post(path_of(mailgun), json=forged), 401, "unauthorized")

    assert await fate(db, other) == ("sent", None, "active")
    assert len(await events_of(client, mailgun)) == 1


async def test_mailguns_event_again_under_a_new_token(anonymous, mailgun, db):
    """A retry that was signed anew is known by the event's id and time."""
    _, (letter, *_) = await send_letters(db)
    event = failed(letter, "bounce", "5.1.1 no such user")

    for token in ("a" * 50, "b" * 50):
        assert (
            await anonymous.post(path_of(mailgun), json=mailgun_body(SIGNING, event, token=token))
        ).status_code == 200
    assert await db.fetchval("SELECT count(*) FROM signal_events") == 1
    assert await db.fetchval("SELECT count(*) FROM bounces") == 1
