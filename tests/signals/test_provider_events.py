"""The readers of providers' events: any JSON is read without an error, times and references as they are written."""

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.errors import Unauthorized
from mailbase.signals import sources
from mailbase.signals.providers_in import brevo, event, mailgun, postmark, sendgrid, ses
from mailbase.signals.providers_in.event import bounce, moment, own_ids, same

WORDS = st.sampled_from(
    [
        *("event", "email", "timestamp", "reason", "type", "status", "sg_event_id", "smtp-id", "bounce_classification"),
        *("event-data", "delivery-status", "message", "headers", "message-id", "severity", "recipient", "code", "id"),
        *("RecordType", "Type", "TypeCode", "Email", "Details", "Metadata", "Content", "BouncedAt", "Origin", "ID"),
        *(
            "ts_epoch",
            "X-Mailin-custom",
            "eventType",
            "bounce",
            "bouncedRecipients",
            "emailAddress",
            "mail",
            "complaint",
        ),
        *("complainedRecipients", "bounceType", "commonHeaders", "messageId", "destination", "delivery", "recipients"),
    ]
)
VALUES = st.sampled_from(
    [
        "Bounce",
        "bounce",
        "failed",
        "dropped",
        "hard_bounce",
        "Complaint",
        "Delivery",
        "permanent",
        "Permanent",
        "550 5.1.1 no",
        1,
        1e300,
        -1,
        100001,
    ]
)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=8),
    max_leaves=25,
)


@given(ANY)
def test_no_json_is_too_odd(value):
    """Whatever a provider sends becomes an event that can be stored; no shape of it is an error."""
    readers = (sendgrid._event, mailgun._event, postmark._event, brevo._event)
    found = [read(value) for read in readers]
    if isinstance(value, dict):
        found += ses.events(value, "id")
    for one in found:
        assert one.kind
        assert one.key
        own_ids(one.refs)
        msgspec.convert(msgspec.to_builtins(one.feedback), event.Feedback | None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2016-01-27T14:59:38.237Z", dt.datetime(2016, 1, 27, 14, 59, 38, 237000, dt.UTC)),
        ("2019-11-05T16:33:54.9070259Z", dt.datetime(2019, 11, 5, 16, 33, 54, 907025, dt.UTC)),
        ("2019-11-05T17:33:54+01:00", dt.datetime(2019, 11, 5, 16, 33, 54, tzinfo=dt.UTC)),
        (1513299569, dt.datetime(2017, 12, 15, 0, 59, 29, tzinfo=dt.UTC)),
        (1513299569.25, dt.datetime(2017, 12, 15, 0, 59, 29, 250000, dt.UTC)),
        (1513299569000, dt.datetime(2017, 12, 15, 0, 59, 29, tzinfo=dt.UTC)),
        *((odd, None) for odd in ("", "yesterday", None, True, 1e300, -1e300, [], {}, "0000-00-00")),
    ],
)
def test_times(value, expected):
    """Times are ISO 8601, seconds or milliseconds; anything else is no time."""
    assert moment(value) == expected


def test_our_message_ids_are_recognised_in_any_dress():
    """With or without brackets, in pairs of a custom header or in a whole letter; others' look-alikes are not taken for ours."""
    assert own_ids(
        ("<12.649a5b3c2d1e0f@shop.example>", "ref:12.649a5b3c2d1e0f@shop.example|7.0123456789ab@b.example")
    ) == [
        (12, 0x649A5B3C2D1E0F),
        (7, 0x0123456789AB),
    ]
    assert (
        own_ids(("<14c5d75ce93.dfd.64b469@ismtpd-555>", "<202303111632.1234@x.example>", "9" * 30 + ".0123456789ab@x"))
        == []
    )


@given(st.text(), st.text())
def test_secrets_are_the_same_only_when_equal(one, other):
    """The comparison that tells nothing tells the truth."""
    assert same(one, one)
    assert same(one, other) is (one == other)


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun", "postmark", "brevo"])
@given(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(["authorization", sendgrid.SIGNATURE, sendgrid.TIMESTAMP]), st.text(max_size=30)),
)
async def test_nothing_gets_in_by_chance(provider, body, headers):
    """No bytes and no headers pass without the secret."""
    incoming = event.Incoming(headers, {}, body)
    desk = event.Desk(None, dt.datetime.now(dt.UTC))
    with pytest.raises(Unauthorized):
        await sources.READERS[provider][1](incoming, event.Trust(secret="the secret"), desk)


def test_the_milder_reading_wins():
    """A provider's hard bounce is as mild as the server's words; a mild one never gets harder by them."""
    assert bounce("x", "hard", "uncategorized", email=None, at=None, reply="550 5.7.1 spam").cls == "block"
    assert (
        bounce("x", "hard", "uncategorized", email=None, at=None, reply="550 5.1.1 no such user").reason
        == "invalid_recipient"
    )
    assert bounce("x", "hard", "uncategorized", email=None, at=None, reply="550 no").cls == "hard"
    assert bounce("x", "soft", "uncategorized", email=None, at=None, reply="550 5.1.1 no such user").cls == "soft"
    assert bounce("x", "block", "policy_related", email=None, at=None, reply="550 5.1.1 no such user").cls == "block"
