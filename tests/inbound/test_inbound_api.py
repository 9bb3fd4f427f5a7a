"""``/v1/inbound`` and ``/v1/bounces``: mail handed over by API, what became of it, and the list of bounces."""

import pytest

from inbound.inbound_kit import BOUNCES, TOKENS, crlf, dsn, envelope_sender, sent
from mailbase.sending.dns import DnsResolver
from mailbase.signals import incoming, reading

MAIL = {"Content-Type": "message/rfc822"}
RESOLVER = DnsResolver([("127.0.0.1", 9)])


async def read(pool):
    """Let a worker read what waits."""
    while await reading.step(pool, TOKENS, RESOLVER, slot=1):
        pass


async def test_a_mail_by_api(client, pool, db):
    """A mail is stored when it is acknowledged, read by a worker, and shows up as a bounce in the contract's shape."""
    campaign_id, (one,) = await sent(db)
    answer = await client.post("/v1/inbound/raw", content=dsn(envelope_sender(one)), headers=MAIL)
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["source"], answer.json()["kept"]) == ("waiting", "api", True)
    await read(pool)
    shown = (await client.get(f"/v1/inbound/{answer.json()['id']}")).json()
    assert (shown["state"], shown["kept"]) == ("applied", False)
    (bounce,) = (await client.get("/v1/bounces", params={"campaign_id": campaign_id, "class": "hard"})).json()["data"]
    assert list(bounce) == [
        "id", "delivery_id", "campaign_id", "subscriber_id", "email", "class", "reason", "status", "reply", "reporting_mta", "at",
    ]  # fmt: skip
    assert (bounce["delivery_id"], bounce["class"], bounce["email"], bounce["status"]) == (
        one,
        "hard",
        "reader@post.example",
        "5.1.1",
    )
    stats = (await client.get(f"/v1/campaigns/{campaign_id}/stats")).json()
    assert stats["deliveries"]["bounced"] == stats["bounces"]["hard"] == 1
    assert stats["deliveries"]["sent"] == 0


async def test_filters_of_bounces(client, pool, db):
    """Bounces are listed newest first, by campaign and class, page by page; an unknown class is refused."""
    first, letters = await sent(db, letters=3)
    second, (other,) = await sent(db, email="other@post.example")
    for n, (one, status) in enumerate([*zip(letters, ["5.1.1", "4.2.2", "5.7.1"], strict=True), (other, "5.1.1")]):
        text = {
            "5.1.1": "550 5.1.1 User unknown",
            "4.2.2": "452 4.2.2 Mailbox full",
            "5.7.1": "550 5.7.1 blocked, listed at Spamhaus",
        }[status]
        mail = dsn(envelope_sender(one), status=status, code=text) + b"%d" % n
        assert (await client.post("/v1/inbound/raw", content=mail, headers=MAIL)).status_code == 202
    await read(pool)

    async def ids(**query):
        return [one["delivery_id"] for one in (await client.get("/v1/bounces", params=query)).json()["data"]]

    assert await ids() == [other, *letters[::-1]]
    assert await ids(campaign_id=first) == letters[::-1]
    assert await ids(campaign_id=second, **{"class": "soft"}) == []
    assert [await ids(**{"class": cls}) for cls in ("soft", "block")] == [[letters[1]], [letters[2]]]
    page = (await client.get("/v1/bounces", params={"limit": 3, "include_total": "true"})).json()
    assert page["total"] == 4
    assert await ids(limit=3, cursor=page["next_cursor"]) == [letters[0]]
    assert (await client.get("/v1/bounces", params={"class": "odd"})).status_code in {400, 422}


async def test_the_envelope(client, pool, db):
    """The envelope may come with the mail, and counts as one by SMTP does."""
    _, (one,) = await sent(db)
    query = {"mail_from": "", "rcpt_to": ["x@y.example", envelope_sender(one)]}
    await client.post("/v1/inbound/raw", params=query, content=b"Subject: s\r\n\r\nxyzzy\r\n", headers=MAIL)
    await read(pool)
    shown = (await client.get("/v1/inbound", params={"state": "applied"})).json()["data"]
    assert [one["recipients"] for one in shown] == [query["rcpt_to"]]
    assert await db.fetchval("SELECT class FROM bounces") == "soft"


async def test_what_could_not_be_understood(client, pool):
    """A mail nobody can resolve is listed and can be fetched as it came."""
    mail = dsn("news@shop.example")
    made = (await client.post("/v1/inbound/raw", content=mail, headers=MAIL)).json()["id"]
    assert (await client.get(f"/v1/inbound/{made}/raw")).content == mail
    await read(pool)
    (shown,) = (await client.get("/v1/inbound", params={"state": "unresolved"})).json()["data"]
    assert shown["id"] == made
    assert "no letter that can be proven ours" in shown["outcome"]
    raw = await client.get(f"/v1/inbound/{made}/raw")
    assert (raw.content, raw.headers["content-type"].partition(";")[0]) == (mail, "message/rfc822")
    assert (await client.get("/v1/inbound", params={"state": "applied"})).json()["data"] == []


async def test_again(client):
    """The same mail again is the one that is there; an Idempotency-Key replays the answer."""
    mail = crlf("Subject: s\n\nx\n")
    first = (await client.post("/v1/inbound/raw", content=mail, headers=MAIL)).json()["id"]
    assert (await client.post("/v1/inbound/raw", content=mail, headers=MAIL)).json()["id"] == first
    keyed = {**MAIL, "Idempotency-Key": "once"}
    answers = [await client.post("/v1/inbound/raw", content=mail + b"2", headers=keyed) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (415, b"Subject: s\r\n\r\n", {"Content-Type": "application/json"}),
        (415, b"Subject: s\r\n\r\n", {}),
        (422, b" \r\n", MAIL),
        (413, b"x" * (incoming.LARGEST + 1), MAIL),
    ],
    ids=["json", "no-type", "empty", "too-large"],
)
async def test_what_is_refused(client, status, content, headers):
    """What is not a mail, empty or too large is refused in the contract's words."""
    answer = await client.post("/v1/inbound/raw", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_may(client, anonymous):
    """Without a key nothing is taken; a key needs subscribers:write to hand over, and subscribers:read to look."""
    assert (await anonymous.post("/v1/inbound/raw", content=b"x", headers=MAIL)).status_code == 401
    made = await client.post("/v1/keys", json={"name": "n", "scopes": ["stats:read"]})
    narrow = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert (await client.post("/v1/inbound/raw", content=b"x", headers={**MAIL, **narrow})).status_code == 403
    assert (await client.get("/v1/inbound", headers=narrow)).status_code == 403
    assert (await client.get("/v1/bounces", headers=narrow)).status_code == 200


async def test_erasing(client, pool, db):
    """Erasing a person takes the mails that name them along."""
    await sent(db)
    mail = dsn(f"fbl@{BOUNCES}")
    await client.post("/v1/inbound/raw", content=mail, headers=MAIL)
    await read(pool)
    reader = await db.fetchval("SELECT id FROM subscribers")
    assert (await client.delete(f"/v1/subscribers/{reader}")).status_code == 204
    assert await db.fetchval("SELECT count(*) FROM incoming WHERE raw IS NOT NULL") == 0
