"""Our own addresses: what they say is proven, survives lower case, and goes out with every letter of a domain that takes them."""

import email
import random
import string
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mailbase.sending.deliveries import leases
from mailbase.sending.dispatch import compose
from mailbase.sending.dispatch.compose import Streams
from mailbase.sending.domains import verp
from mailbase.tokens import Tokens
from sending.sending_kit import add_campaign, add_domain

TOKENS = Tokens(["the secret key of the tests"])
NOW = datetime(2026, 11, 22, tzinfo=UTC)
IDS = st.integers(0, 2**63 - 1)


@given(IDS, st.integers(0))
def test_an_address_comes_back(delivery_id, seed):
    """Every address is read as what it was written for, whatever became of its case, and keeps to 64 characters."""
    ref = verp.ref(TOKENS, delivery_id)
    dice = random.Random(seed)
    for address, kind in (
        (verp.envelope_sender(ref, "shop.example"), "bounce"),
        (verp.unsubscribe_address(ref, "shop.example"), "unsubscribe"),
    ):
        shuffled = "".join(dice.choice((one.upper(), one.lower())) for one in address)
        own = verp.read_address(TOKENS, f"<{shuffled}>")
        assert own == verp.Own(kind, delivery_id, "bounces.shop.example")
        assert len(address.partition("@")[0]) <= 64
        assert set(address) <= set(string.ascii_lowercase + string.digits + "+.@-")


@given(IDS, st.data())
def test_an_address_with_one_character_changed(delivery_id, data):
    """No other character anywhere in a reference is taken for it."""
    ref = verp.ref(TOKENS, delivery_id)
    at = data.draw(st.integers(0, len(ref) - 1))
    other = data.draw(st.sampled_from([one for one in string.hexdigits.lower() + "g-." if one != ref[at]]))
    assert verp.read_ref(TOKENS, ref[:at] + other + ref[at + 1 :]) is None
    assert verp.read_ref(TOKENS, ref[:at] + ref[at + 1 :]) is None


@given(st.text(max_size=200))
def test_any_text(text):
    """Whatever stands in an address, reading it never fails, and nothing but ours is understood."""
    own = verp.read_address(TOKENS, text)
    assert own is None or own.kind == "complaint"
    assert verp.read_ref(TOKENS, text) is None


def test_purposes_and_secrets():
    """A link's token is no reference, another secret's reference is none, and an older secret's still is."""
    ref = verp.ref(TOKENS, 7)
    assert verp.read_ref(TOKENS, TOKENS.sign_hex("letter", 7)) is None
    assert verp.read_ref(TOKENS, TOKENS.sign("verp", 7)) is None
    assert verp.read_ref(Tokens(["another secret key entirely"]), ref) is None
    assert verp.read_ref(Tokens(["a new secret key", "the secret key of the tests"]), ref) == 7


async def one_letter(db, streams, *, verp_on):
    """Compose one letter of a campaign; return its envelope and its headers."""
    domain_id = await db.fetchval("SELECT id FROM domains") or await add_domain(db, "shop.example")
    await db.execute("UPDATE domains SET verp = $1", verp_on)
    reader = await db.fetchval(
        "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('a@b.example', 'a@b.example', 'b.example', 'active') "
        "ON CONFLICT (email_key) DO UPDATE SET source = 's' RETURNING id"
    )
    campaign_id = await add_campaign(db, domain_id, [reader])
    _, (letter,) = await leases.lease_campaign(db, campaign_id, 1)
    stream = await streams.get(db, campaign_id)
    envelope = stream.compose(letter, "a@b.example", {}, None, NOW)
    return letter.id, envelope, email.message_from_bytes(envelope.message)


async def test_letters_of_a_campaign(db):
    """A campaign's letters leave under the From address until the bounce MX is seen, then each under its own, and can be left by mail."""
    streams = Streams(public_url="https://mail.example", tokens=TOKENS)
    _, envelope, headers = await one_letter(db, streams, verp_on=False)
    assert envelope.mail_from == "news@shop.example"
    assert headers["List-Unsubscribe"].startswith("<https://mail.example/u/")
    assert headers["List-Unsubscribe"].count("<") == 1
    assert headers["X-Mailbase-Ref"] is headers["CFBL-Address"] is None
    letter_id, envelope, headers = await one_letter(db, streams, verp_on=True)
    assert verp.read_address(TOKENS, envelope.mail_from) == verp.Own("bounce", letter_id, "bounces.shop.example")
    assert verp.read_ref(TOKENS, headers["X-Mailbase-Ref"]) == letter_id
    assert headers["CFBL-Address"] == "fbl@bounces.shop.example; report=arf"
    https, mailto = headers["List-Unsubscribe"].replace("\r\n", "").replace(" ", "").split(",")
    assert https.startswith("<https://mail.example/u/")
    own = verp.read_address(TOKENS, mailto.removeprefix("<mailto:").removesuffix(">"))
    assert own == verp.Own("unsubscribe", letter_id, "bounces.shop.example")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert len(headers.get_all("List-Unsubscribe")) == 1
    assert envelope.clean


async def test_messages(db):
    """A message always carries its reference, and leaves under its own address once the bounce MX is seen."""
    domain_id = await add_domain(db, "shop.example")
    for verp_on, sender in ((False, "shop@shop.example"), (True, None)):
        await db.execute("UPDATE domains SET verp = $1", verp_on)
        message_id = await db.fetchval(
            "INSERT INTO messages (kind, domain_id, from_email, email, email_key, subject, text) "
            "VALUES ('transactional', $1, 'shop@shop.example', 'a@b.example', 'a@b.example', 's', 't') RETURNING id",
            domain_id,
        )
        await db.execute("INSERT INTO deliveries (message_id, domain_id) VALUES ($1, $2)", message_id, domain_id)
        _, (letter,) = await leases.lease_messages(db, 1)
        envelope = compose.message(letter, [], None, NOW, tokens=TOKENS)
        headers = email.message_from_bytes(envelope.message)
        assert verp.read_ref(TOKENS, headers["X-Mailbase-Ref"]) == letter.id
        assert envelope.mail_from == (sender or verp.envelope_sender(verp.ref(TOKENS, letter.id), "shop.example"))


async def test_a_bounce_mx_that_goes(db):
    """A worker that is sending already sees within a minute whether the domain still takes its bounces."""
    streams = Streams(public_url="https://mail.example", tokens=TOKENS)
    await one_letter(db, streams, verp_on=True)
    campaign_id = await db.fetchval("SELECT max(id) FROM campaigns")
    stream = await streams.get(db, campaign_id)
    await db.execute("UPDATE domains SET verp = false")
    assert (await streams.get(db, campaign_id)) is stream
    assert stream.verp
    streams._read[campaign_id] -= compose.FRESH + 1
    assert (await streams.get(db, campaign_id)) is stream
    assert not stream.verp
