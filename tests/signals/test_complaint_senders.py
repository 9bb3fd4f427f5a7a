"""Whose complaints are believed when they name only an address: a table an owner may change."""

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailbase.sending.signing import keys
from mailbase.signals import complaint_senders, trust


async def test_the_table_is_shown_and_changed(client):
    """Those mailbase knows are there; one may be added in any case of letters, once, and taken away again."""
    known = {row["address"]: row for row in (await client.get("/v1/complaint-senders")).json()["data"]}
    assert {"feedback@arf.mail.yahoo.com", "staff@hotmail.com", "@feedback.senderscore.net"} <= known.keys()
    made = await client.post("/v1/complaint-senders", json={"address": "FBL@post.example", "note": "ours"})
    assert made.status_code == 201, made.text
    assert (made.json()["address"], made.json()["note"]) == ("fbl@post.example", "ours")
    again = await client.post("/v1/complaint-senders", json={"address": "fbl@POST.example"})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    for wrong in ("post.example", "a b@post.example", "fbl@", "a@b@c.example"):
        refused = await client.post("/v1/complaint-senders", json={"address": wrong})
        assert refused.status_code == 422, wrong
    path = f"/v1/complaint-senders/{made.json()['id']}"
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert len((await client.get("/v1/complaint-senders")).json()["data"]) == len(known)


class Records:
    """A resolver that knows one key."""

    def __init__(self, record):
        self._record = record

    async def txt(self, _name):
        """Return the key."""
        return [self._record]


async def test_only_those_in_the_table_are_believed(db):
    """A good signature of a sender that is not in the table proves nothing; once it is, it does, by address or by domain."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    mail = b"From: FBL <fbl@post.example>\r\nTo: fbl@shop.example\r\nSubject: report\r\n\r\nx\r\n"
    mail = dkim.sign(mail, b"s1", b"post.example", pem, include_headers=[b"from", b"to", b"subject"]) + mail
    resolver = Records(f"v=DKIM1; k=rsa; p={keys.public_key(private)}")

    assert not await trust.is_provider(mail, resolver, await complaint_senders.addresses(db))
    added = await complaint_senders.add(db, "fbl@post.example", "")
    assert await trust.is_provider(mail, resolver, await complaint_senders.addresses(db))
    await complaint_senders.remove(db, added.id)
    await complaint_senders.add(db, "@post.example", "")
    assert await trust.is_provider(mail, resolver, await complaint_senders.addresses(db))
