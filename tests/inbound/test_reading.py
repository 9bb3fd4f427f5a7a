"""From a stored mail to what it changes: only what proves to be about a letter of ours changes anything."""

import asyncio
import base64
import time
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from dns_server import DnsServer
from inbound.inbound_kit import (
    BOUNCES,
    DOMAIN,
    TOKENS,
    arf,
    counted,
    crlf,
    dsn,
    envelope_sender,
    headers_of,
    sent,
)
from mailbase.reports.examine import examine
from mailbase.sending.dns import DnsResolver
from mailbase.sending.domains import verp
from mailbase.sending.signing import keys
from mailbase.signals import incoming, reading, resolve
from mailbase.signals.incoming import Mail, Waiting
from mailbase.tokens import Tokens

NOWHERE = DnsResolver([("127.0.0.1", 9)])


async def read(pool, db, data, *, to=(), mail_from="", source="smtp", resolver=NOWHERE):
    """Store a mail and let it be read; return its state and outcome."""
    mail_id = await incoming.store(db, Mail(source=source, data=data, mail_from=mail_from, recipients=list(to)))
    await reading.step(pool, TOKENS, resolver, slot=1)
    return tuple(await db.fetchrow("SELECT state, outcome FROM incoming WHERE id = $1", mail_id))


async def reader_of(db, delivery_id):
    """Return a letter's state and class, and its reader's status."""
    return tuple(
        await db.fetchrow(
            "SELECT state::text, bounce_class, status FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id WHERE deliveries.id = $1",
            delivery_id,
        )
    )


async def test_a_bounce_to_its_own_address(pool, db):
    """A report to a letter's VERP address bounces that letter, counts it, ends the reader, and is not kept."""
    campaign_id, (one,) = await sent(db)
    state, outcome = await read(pool, db, dsn(envelope_sender(one)), to=[envelope_sender(one)])
    assert state == "applied"
    assert outcome.startswith("hard bounce (")
    assert await reader_of(db, one) == ("bounced", "hard", "bounced")
    assert (await counted(db, campaign_id))["bounce.hard"] == 1
    assert await db.fetchval("SELECT raw FROM incoming") is None
    row = await db.fetchrow("SELECT status, reporting_mta, email FROM bounces")
    assert tuple(row) == ("5.1.1", "mx.post.example", "reader@post.example")


async def test_the_address_wins(pool, db):
    """A report to one letter's address that names somebody else, as after a forwarding, is about that letter."""
    _, (one, other) = await sent(db, letters=2)
    await read(pool, db, dsn("x@y.example", recipient="r1-reader@post.example"), to=[envelope_sender(one)])
    assert (await reader_of(db, one))[2] == "bounced"
    assert await reader_of(db, other) == ("sent", None, "active")


@pytest.mark.parametrize("source", ["api", "pipe", "imap"])
async def test_without_an_envelope(pool, db, source):
    """Without an envelope the mail's own To, or the headers of the letter it returns, tell which letter it is."""
    _, letters = await sent(db, letters=3)
    token_only = headers_of(letters[1], verp_on=False)
    ref_only = f"X-Mailbase-Ref: {verp.ref(TOKENS, letters[2])}"
    for mail in (
        dsn(envelope_sender(letters[0])),
        dsn("news@shop.example", returned=token_only),
        dsn("news@shop.example", returned=ref_only),
    ):
        assert (await read(pool, db, mail, mail_from=None, source=source))[0] == "applied"
    assert {await reader_of(db, one) for one in letters} == {("bounced", "hard", "bounced")}


async def test_a_forged_bounce(pool, db):
    """A report that guesses addresses, ids, tokens of another secret and Message-IDs changes nothing, and stays to be looked at."""
    campaign_id, (one,) = await sent(db)
    forger = Tokens(["another secret entirely"])
    token = forger.sign("unsubscribe", 1, one)
    letter = TOKENS.sign("letter", one)
    returned = (
        f"Return-Path: <b.{verp.ref(forger, one)}@{BOUNCES}>\r\nMessage-ID: <{one}.abc@shop.example>\r\nX-Mailbase-Ref: {one}\r\n"
        f"List-Unsubscribe: <http://mailbase.test/u/{token}>, <http://mailbase.test/u/{letter}>\r\nTo: reader@post.example"
    )
    for to in (f"b.{one}@{BOUNCES}", f"b.{verp.ref(forger, one)}@{BOUNCES}", "news@shop.example"):
        mail = dsn(to, returned=returned)
        state, _ = await read(pool, db, mail, to=[to])
        assert state == "unresolved"
        assert await db.fetchval("SELECT raw FROM incoming ORDER BY id DESC LIMIT 1") == mail
    assert await reader_of(db, one) == ("sent", None, "active")
    assert await counted(db, campaign_id) == {"delivery.sent": 1, "provider.other.sent": 1}


async def test_what_is_no_bounce(pool, db):
    """Delays, successes and vacation answers change nothing and are not kept."""
    _, (one,) = await sent(db)
    own = envelope_sender(one)
    vacation = crlf(
        f"From: reader@post.example\nTo: {own}\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away until Monday.\n"
    )
    for mail in (
        dsn(own, action="delayed", status="4.4.1", code="451 4.4.1 connection timed out"),
        dsn(own, action="delivered", status="2.0.0", code="250 ok"),
        vacation,
    ):
        assert (await read(pool, db, mail, to=[own]))[0] == "ignored"
    assert await reader_of(db, one) == ("sent", None, "active")
    assert await db.fetchval("SELECT count(raw) FROM incoming") == 0


async def test_a_block(pool, db):
    """A refusal for the sender's own fault bounces the letter and never touches the reader."""
    campaign_id, (one,) = await sent(db)
    mail = dsn("x@y.example", status="5.7.1", code="550 5.7.1 Message rejected as spam, your IP is listed at Spamhaus")
    assert (await read(pool, db, mail, to=[envelope_sender(one)]))[0] == "applied"
    assert await reader_of(db, one) == ("bounced", "block", "active")
    assert (await counted(db, campaign_id))["bounce.block"] == 1


async def test_a_bounce_nobody_can_read(pool, db):
    """What comes from nobody to a letter's own address and says nothing is a soft bounce; an answer of a person is not."""
    _, (one, two) = await sent(db, letters=2)
    mail = crlf("From: a@post.example\nSubject: hm\n\nxyzzy\n")
    assert (await read(pool, db, mail, to=[envelope_sender(one)]))[0] == "applied"
    assert await reader_of(db, one) == ("bounced", "soft", "active")
    assert (await read(pool, db, mail, to=[envelope_sender(two)], mail_from="a@post.example"))[0] == "unresolved"
    assert await reader_of(db, two) == ("sent", None, "active")


@pytest.mark.parametrize("returned", ["ref", "verp", "token"])
async def test_a_complaint(pool, db, returned):
    """A complaint is resolved by our reference, the Return-Path or the List-Unsubscribe of the letter it returns, and ends the reader."""
    campaign_id, (one,) = await sent(db)
    headers = {
        "ref": f"X-Mailbase-Ref: {verp.ref(TOKENS, one)}\r\nTo: redacted@arf.example",
        "verp": f"Return-Path: <{envelope_sender(one)}>\r\nTo: redacted@arf.example",
        "token": headers_of(one, verp_on=False, to="redacted@arf.example"),
    }[returned]
    assert await read(pool, db, arf(headers), to=[f"fbl@{BOUNCES}"]) == ("applied", "complaint (abuse)")
    assert await reader_of(db, one) == ("sent", None, "complained")
    assert (await counted(db, campaign_id))["complaints"] == 1
    assert await db.fetchval("SELECT reason FROM suppressions") == "complaint"
    again = await read(pool, db, arf(headers, kind="fraud"), to=[f"fbl@{BOUNCES}"])
    assert again == ("applied", "complaint (fraud); known already")


async def test_the_order_of_complaints(pool, db):
    """Where the parts of a complaint disagree, our reference counts before the Return-Path, and that before the token."""
    _, (first, second, third) = await sent(db, letters=3)
    token = headers_of(third, verp_on=False)
    path = f"Return-Path: <{envelope_sender(second)}>"
    await read(pool, db, arf(f"{path}\r\n{token}\r\nX-Mailbase-Ref: {verp.ref(TOKENS, first)}"))
    assert [(await reader_of(db, one))[2] for one in (first, second, third)] == ["complained", "active", "active"]
    await read(pool, db, arf(f"{path}\r\n{token}"))
    assert [(await reader_of(db, one))[2] for one in (first, second, third)] == ["complained", "complained", "active"]


@pytest.mark.parametrize(
    ("kind", "status"), [("not-spam", "active"), ("auth-failure", "active"), ("opt-out", "unsubscribed")]
)
async def test_kinds_of_feedback(pool, db, kind, status):
    """Not-spam and failed authentication end nobody; opt-out is a wish to leave, not a complaint."""
    campaign_id, (one,) = await sent(db)
    await read(pool, db, arf(headers_of(one), kind=kind), to=[f"fbl@{BOUNCES}"])
    assert (await reader_of(db, one))[2] == status
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 0
    assert (await counted(db, campaign_id)).get("unsubscribes", 0) == (kind == "opt-out")


async def test_leaving_by_mail(pool, db):
    """A mail to a letter's unsubscribe address, whatever it says, lets the reader leave, once; so does one without an envelope."""
    campaign_id, (one, two) = await sent(db, letters=2)
    mail = crlf("From: reader@post.example\nSubject: unsubscribe\n\n")
    own = verp.unsubscribe_address(verp.ref(TOKENS, one), DOMAIN)
    assert await read(pool, db, mail, to=[own.upper()], mail_from="reader@post.example") == ("applied", "unsubscribe")
    assert (await read(pool, db, mail + b"again", to=[own], mail_from="reader@post.example"))[
        1
    ] == "unsubscribe; known already"
    to = verp.unsubscribe_address(verp.ref(TOKENS, two), DOMAIN)
    mail = crlf(f"From: reader@post.example\nTo: <{to}>\nSubject: unsubscribe\n\n")
    assert (await read(pool, db, mail, mail_from=None, source="imap"))[0] == "applied"
    assert [(await reader_of(db, letter))[2] for letter in (one, two)] == ["unsubscribed", "unsubscribed"]
    assert (await counted(db, campaign_id))["unsubscribes"] == 2
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 0


def signed(mail, domain, private):
    """Return the mail with a DKIM signature of the domain."""
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return dkim.sign(mail, b"s1", domain.encode(), pem, include_headers=[b"from", b"to", b"subject"]) + mail


async def test_a_complaint_that_hides_the_letter(pool, db):
    """A report that names only the recipient counts when a provider's own signature proves it, and otherwise changes nothing."""
    campaign_id, (one,) = await sent(db)
    _, (newer,) = await sent(db)
    returned = f"To: reader@post.example\r\nSubject: Fresh bread\r\nFeedback-ID: c{campaign_id}:{DOMAIN}:newsletter:mb0123456789"
    private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    record = f"v=DKIM1; k=rsa; p={keys.public_key(private)}"
    mail = arf(returned, original="reader@post.example")
    spoofed = arf(returned, original="reader@post.example", sender="feedback@arf.mail.yahoo.com.evil.example")
    async with DnsServer({
        ("s1._domainkey.arf.mail.yahoo.com", "TXT"): [record],
        ("s1._domainkey.evil.example", "TXT"): [record],
        ("s1._domainkey.arf.mail.yahoo.com.evil.example", "TXT"): [record],
    }) as dns:  # fmt: skip
        resolver = DnsResolver([dns.address])
        for forged in (
            mail,
            signed(mail, "evil.example", private),
            signed(spoofed, "arf.mail.yahoo.com.evil.example", private),
            signed(mail, "arf.mail.yahoo.com", rsa.generate_private_key(public_exponent=65537, key_size=1024)),
            signed(mail, "arf.mail.yahoo.com", private).replace(b"reader@", b"victim@"),
            b"From: someone@else.example\r\n" + signed(mail, "arf.mail.yahoo.com", private),
        ):
            assert (await read(pool, db, forged, to=[f"fbl@{BOUNCES}"], resolver=resolver))[0] == "unresolved"
        assert (await reader_of(db, one))[2] == "active"
        proven = await read(
            pool, db, signed(mail, "arf.mail.yahoo.com", private), to=[f"fbl@{BOUNCES}"], resolver=resolver
        )
    assert proven == ("applied", "complaint (abuse)")
    assert (await reader_of(db, one))[2] == "complained"
    # Feedback-ID names the campaign, though a newer letter went to the same address.
    assert (await counted(db, campaign_id))["complaints"] == 1
    assert await db.fetchval("SELECT delivery_id FROM subscriber_events WHERE kind = 'complained'") == one
    assert newer > one


async def test_never_backscatter(pool, db):
    """Whatever comes in, nothing goes out: no letter is ever made of it."""
    _, (one,) = await sent(db)
    before = await db.fetchrow("SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM messages)")
    for n, mail in enumerate(
        (
            dsn("a@b.example"),
            arf("Subject: x"),
            b"",
            b"\0" * 100,
            base64.b64decode("/////w=="),
            b"Subject: Please confirm\r\n\r\nclick",
        )
    ):
        await read(pool, db, mail + b"%d" % n, to=[envelope_sender(one)], mail_from="challenge@post.example")
    assert await db.fetchrow("SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM messages)") == before


async def test_a_reader_that_dies(pool, db):
    """A mail that somebody took and never finished is read by somebody else, and applied once."""
    campaign_id, (one,) = await sent(db)
    await incoming.store(
        db, Mail(source="smtp", data=dsn("x@y.example"), mail_from="", recipients=[envelope_sender(one)])
    )
    assert len(await incoming.take(db, 10)) == 1
    assert await reading.step(pool, TOKENS, NOWHERE, slot=1) == 0
    await db.execute("UPDATE incoming SET due_at = now()")
    assert await reading.step(pool, TOKENS, NOWHERE, slot=1) == 1
    await db.execute("UPDATE incoming SET state = 'waiting', due_at = now(), raw = $1", dsn("x@y.example"))
    assert await reading.step(pool, TOKENS, NOWHERE, slot=1) == 1
    assert (await counted(db, campaign_id))["bounce.hard"] == 1
    assert await db.fetchval("SELECT count(*) FROM bounces") == 1


async def test_many_readers(pool, db):
    """Several workers reading at once apply every mail once."""
    campaign_id, letters = await sent(db, letters=60)
    for one in letters:
        await incoming.store(
            db, Mail(source="smtp", data=dsn("x@y.example"), mail_from="", recipients=[envelope_sender(one)])
        )
    stop = asyncio.Event()
    readers = [asyncio.create_task(reading.run(pool, TOKENS, NOWHERE, slot=n, stop=stop)) for n in range(4)]
    deadline = time.monotonic() + 30
    while await db.fetchval("SELECT count(*) FROM incoming WHERE state = 'waiting'"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*readers)
    assert (await counted(db, campaign_id))["delivery.bounced"] == 60


async def test_too_much_to_keep(db):
    """Of unresolved mails the newest are kept, up to a gigabyte together."""
    for n in range(6):
        await incoming.store(db, Mail(source="smtp", data=b"%d" % n * 1000))
    await db.execute("UPDATE incoming SET state = 'unresolved' WHERE id % 6 <> 0")
    assert await incoming.forget_old(db, most=3500) == 2
    assert await db.fetchval("SELECT count(*) FROM incoming") == 4


@given(st.binary(max_size=2000), st.lists(st.text(max_size=80), max_size=3), st.sampled_from([None, "", "a@b.example"]))
def test_whatever_comes_in(data, recipients, mail_from):
    """No mail and no envelope made up of anything breaks the resolving, or is taken for a letter of ours."""
    mail = Waiting(1, "smtp", mail_from, recipients, data, 1, datetime.now(UTC))
    resolved = resolve.resolve(mail, examine(data), TOKENS)
    assert resolved.needs_trust or not resolved.feedback


@given(st.integers(0, 400), st.binary(max_size=40), st.integers(0, 1500))
def test_a_broken_bounce(at, rubbish, cut):
    """A report to a letter's own address with any damage is about that letter or about none."""
    mail = dsn(envelope_sender(7), returned=headers_of(7))
    mail = (mail[:at] + rubbish + mail[at:])[: len(mail) - cut]
    resolved = resolve.resolve(Waiting(1, "api", None, [], mail, 1, datetime.now(UTC)), examine(mail), TOKENS)
    assert {one.delivery_id for one in resolved.feedback if not resolved.needs_trust} <= {7}


async def test_forgetting(db):
    """What was read is forgotten after thirty days, what waits never."""
    for n, state in enumerate(["waiting", "applied", "ignored", "unresolved"]):
        mail_id = await incoming.store(db, Mail(source="api", data=b"%d" % n))
        await db.execute(
            "UPDATE incoming SET state = $2, received_at = now() - interval '31 days' WHERE id = $1", mail_id, state
        )
    await incoming.store(db, Mail(source="api", data=b"new"))
    assert await incoming.forget_old(db) == 3
    assert {row["state"] for row in await db.fetch("SELECT state FROM incoming")} == {"waiting"}
