"""Letters that were sent, and the mails that come back about them."""

from mailbase.campaigns.recount import recount
from mailbase.sending.deliveries import counters
from mailbase.sending.deliveries.deliveries import moved
from mailbase.sending.domains import verp
from mailbase.tokens import Tokens

SECRET = "the secret key of the tests"
TOKENS = Tokens([SECRET])
DOMAIN = "shop.example"
BOUNCES = f"bounces.{DOMAIN}"


async def sent(db, *, letters=1, email="reader@post.example"):
    """Store a campaign of a domain that takes its bounces, with sent letters; return its id and the letters' ids."""
    domain_id = await db.fetchval(
        "INSERT INTO domains (name, verp) VALUES ($1, true) ON CONFLICT (name) DO UPDATE SET verp = true RETURNING id",
        DOMAIN,
    )
    campaign_id = await db.fetchval(
        "INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience) VALUES ('n', 'sent', $1, 'news@shop.example', 's', '{}') RETURNING id",
        domain_id,
    )
    ids = []
    for n in range(letters):
        address = email if letters == 1 else f"r{n}-{email}"
        reader = await db.fetchval(
            "INSERT INTO subscribers (email, email_key, domain, status) VALUES ($1, $1, 'post.example', 'active') "
            "ON CONFLICT (email_key) DO UPDATE SET source = 'again' RETURNING id",
            address,
        )
        ids.append(
            await db.fetchval(
                "INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, state, sent_at) VALUES ($1, $2, $3, 'sent', now()) RETURNING id",
                campaign_id, reader, domain_id,
            )
        )  # fmt: skip
    await counters.add(db, moved(campaign_id, "other", None, "sent", letters), slot=0)
    return campaign_id, ids


def envelope_sender(delivery_id):
    """Return the letter's VERP address."""
    return verp.envelope_sender(verp.ref(TOKENS, delivery_id), DOMAIN)


def headers_of(delivery_id, *, subscriber_id=1, to="reader@post.example", verp_on=True):
    """Return the headers of the letter as they come back in a report."""
    ref = verp.ref(TOKENS, delivery_id)
    token = TOKENS.sign("unsubscribe", subscriber_id, delivery_id)
    lines = [
        "From: Shop <news@shop.example>",
        f"To: {to}",
        "Subject: Fresh bread",
        f"Message-ID: <{delivery_id}.abc@shop.example>",
        f"List-Unsubscribe: <http://mailbase.test/u/{token}>",
        f"Feedback-ID: c7:{DOMAIN}:newsletter:mb0123456789",
    ]
    if verp_on:
        lines = [f"Return-Path: <b.{ref}@{BOUNCES}>", *lines, f"X-Mailbase-Ref: {ref}"]
    return "\r\n".join(lines)


def dsn(
    to, *, status="5.1.1", code="550 5.1.1 User unknown", recipient="reader@post.example", returned="", action="failed"
):
    """Return a delivery status notification (RFC 3464) to ``to``."""
    text = f"""From: Mail Delivery Subsystem <mailer-daemon@post.example>
To: <{to}>
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Type: text/plain

This is the mail system at host mx.post.example. I'm sorry to have to inform you.

--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.post.example

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {code}

--b1
Content-Type: text/rfc822-headers

{returned or "Subject: Fresh bread"}

--b1--
"""
    return crlf(text)


def arf(returned, *, kind="abuse", to="fbl@bounces.shop.example", original="", sender="feedback@arf.mail.yahoo.com"):
    """Return a complaint in the Abuse Reporting Format (RFC 5965)."""
    named = f"Original-Rcpt-To: {original}\n" if original else ""
    text = f"""From: <{sender}>
To: <{to}>
Subject: FW: Fresh bread
Date: Thu, 8 Oct 2026 17:40:36 -0400
Message-ID: <report@arf.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b2"

--b2
Content-Type: text/plain

This is an email abuse report.

--b2
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Yahoo!-Mail-Feedback/2.0
Version: 1
{named}
--b2
Content-Type: message/rfc822

{returned}

Hello

--b2--
"""
    return crlf(text)


def crlf(text):
    """Return a mail's bytes."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


async def counted(db, campaign_id):
    """Return the counters that are not zero, having held them to their rows."""
    rows = await db.fetch(
        "SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 GROUP BY key HAVING sum(n) <> 0",
        campaign_id,
    )
    found = {row["key"]: row["n"] for row in rows}
    assert found == await recount(db, campaign_id)
    return found
