"""Labels: each mail service gives back in its webhooks what tells our letter."""

import json
from datetime import UTC, datetime
from email import message_from_bytes

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mailbase.sending.deliveries.leases import MessageLetter
from mailbase.sending.dispatch import compose
from mailbase.sending.labels import BY_HOST, labels_for
from mailbase.sending.signing.dkim import Signer
from mailbase.signals.providers_in import brevo, mailgun, postmark, sendgrid
from mailbase.signals.providers_in.event import own_ids

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LETTER = MessageLetter(
    id=77, subscriber_id=None, attempts=0, provider="other", created_at=NOW, domain_id=1, key_id=1, message_id=5, kind="transactional",
    from_name="Shop", from_email="news@shop.example", reply_to=None, email="bob@example.net", email_key="k", subject="Hello",
    html=None, text="Hello", headers={}, attachments=0,
)  # fmt: skip


def sent(host, signer=None):
    """Return a letter as it goes over a relay."""
    envelope = compose.message(LETTER, [], signer, NOW, labels=labels_for(host))
    return message_from_bytes(envelope.message)


# What each service makes of the header in the events it reports.
EVENTS = {
    "smtp-relay.brevo.com": (
        "X-Mailin-custom",
        lambda value: brevo._event({"event": "delivered", "X-Mailin-custom": value}),
    ),
    "smtp.postmarkapp.com": (
        "X-PM-Metadata-mailbase-ref",
        lambda value: postmark._event({"RecordType": "Delivery", "Metadata": {"mailbase-ref": value}}),
    ),
    "smtp.sendgrid.net": (
        "X-SMTPAPI",
        lambda value: sendgrid._event({"event": "delivered", **json.loads(value)["unique_args"]}),
    ),
    "smtp.eu.mailgun.org": (
        "X-Mailgun-Variables",
        lambda value: mailgun._event({"event": "delivered", "user-variables": json.loads(value)}),
    ),
}


@pytest.mark.parametrize("host", EVENTS)
def test_an_event_names_the_letter_by_its_label(host):
    """A letter carries one label over a known relay, and what the service reports of it leads back to the letter."""
    name, event = EVENTS[host]

    letter = sent(host)

    assert len(letter.get_all(name)) == 1
    assert [number for number, _ in own_ids(event(letter[name]).refs)] == [LETTER.id]
    assert len(letter[name]) <= 80 or name != "X-PM-Metadata-mailbase-ref"


@pytest.mark.parametrize("host", ["127.0.0.1", "email-smtp.eu-west-1.amazonaws.com", "brevo.com.example", None])
def test_other_relays_get_no_labels(host):
    """Nobody else is told anything, nor a host that only looks like one we know."""
    names = {name.lower() for labels in BY_HOST.values() for name in (label.name.decode() for label in labels)}

    assert not names & {name.lower() for name in sent(host)}


def test_labels_are_not_signed():
    """Services take them off on the way, which must not break the signature."""
    letter = sent("smtp.sendgrid.net", Signer("shop.example", "mb", rsa.generate_private_key(65537, 2048)))

    signed = {name.strip().lower() for name in letter["DKIM-Signature"].split("h=")[1].split(";")[0].split(":")}
    assert "x-smtpapi" not in signed
    assert "message-id" in signed
