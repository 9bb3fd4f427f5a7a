"""Letters that went out, providers that report on them, and what is left to see afterwards."""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from mailbase.letters.mime import message_id
from mailbase.outgoing import Outgoing
from signals.signals_kit import make_campaign

TOPIC = "arn:aws:sns:us-east-1:123456789012:bounces"
CERTIFICATE_PATH = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"


class Letter:
    """One letter that was sent, and the person it went to."""

    def __init__(self, row) -> None:
        self.id, self.subscriber_id, self.email = row["id"], row["subscriber_id"], row["email"]
        self.message_id = message_id(row["id"], row["created_at"], "shop.example")
        self.bare_id = self.message_id.strip("<>")


async def send_letters(db, *, letters=3, state="sent"):
    """Store a campaign whose letters were sent an hour ago; return its id and the letters."""
    campaign_id, _ = await make_campaign(db, letters=letters, state=state)
    await db.execute(
        "UPDATE deliveries SET sent_at = now() - interval '60 minutes', created_at = now() - interval '61 minutes'"
    )
    await db.execute(
        "INSERT INTO counters (campaign_id, key, slot, n) VALUES ($1, $2, 0, $3)",
        campaign_id,
        f"delivery.{state}",
        letters,
    )
    rows = await db.fetch(
        "SELECT delivery.id, delivery.subscriber_id, delivery.created_at, person.email FROM deliveries AS delivery "
        "JOIN subscribers AS person ON person.id = delivery.subscriber_id WHERE campaign_id = $1 ORDER BY delivery.id",
        campaign_id,
    )
    return campaign_id, [Letter(row) for row in rows]


async def add_source(client, provider, **fields):
    """Set a source up and return the answer's JSON."""
    answer = await client.post("/v1/signal-sources", json={"provider": provider, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def path_of(source):
    return source["url"].removeprefix("http://mailbase.test")


async def events_of(client, source, **params):
    answer = await client.get(f"/v1/signal-sources/{source['id']}/events", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def fate(db, letter):
    """Return the letter's state and class, and the person's status."""
    row = await db.fetchrow(
        "SELECT delivery.state::text, bounce_class, person.status FROM deliveries AS delivery "
        "JOIN subscribers AS person ON person.id = delivery.subscriber_id WHERE delivery.id = $1",
        letter.id,
    )
    return tuple(row)


# ── SendGrid ──


class SendGridKey:
    """A key pair as SendGrid makes one for a webhook."""

    def __init__(self, curve=None) -> None:
        self._private = ec.generate_private_key(curve or ec.SECP256R1())
        der = self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public = base64.b64encode(der).decode()

    def headers(self, body, timestamp="1600112502"):
        signature = self._private.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        }

    async def post(self, anonymous, source, events):
        body = json.dumps(events).encode()
        return await anonymous.post(path_of(source), content=body, headers=self.headers(body))


# ── Mailgun ──


def mailgun_body(key, event, *, token="c" * 50, at=None):
    """Return a signed webhook, as documented under "Securing Webhooks"."""
    stamp = str(int(time.time() if at is None else at))
    signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {"signature": {"timestamp": stamp, "token": token, "signature": signature}, "event-data": event}


# ── SNS ──


class Amazon:
    """SNS: signs messages, and serves its certificate and confirmations over real TLS."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.certificate = self._certify(self._key)
        self.asked: list[str] = []
        self.answers = {}
        self._authority = trustme.CA()
        self.port = 0

    @staticmethod
    def _certify(key, *, until=dt.timedelta(days=30)):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=60))
            .not_valid_after(now + until)
            .sign(key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    def expire(self):
        self.certificate = self._certify(self._key, until=dt.timedelta(days=-1))

    def message(self, text, *, kind="Notification", version="2", topic=TOPIC, at=None, sign=True, **fields):
        """Return a message as SNS posts it. https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html"""
        moment = at or dt.datetime.now(dt.UTC)
        envelope = {
            "Type": kind,
            "MessageId": f"22b80b92-fdea-4c2c-8f9d-{time.time_ns() % 10**12:012d}",
            "TopicArn": topic,
            "Message": text if isinstance(text, str) else json.dumps(text),
            "Timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "SignatureVersion": version,
            "SigningCertURL": f"https://sns.us-east-1.amazonaws.com{CERTIFICATE_PATH}",
            **fields,
        }
        names = (
            ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
            if kind == "Notification"
            else ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        )
        signed = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
        digest = hashes.SHA1() if version == "1" else hashes.SHA256()
        key = self._key if sign else rsa.generate_private_key(65537, 2048)
        envelope["Signature"] = base64.b64encode(key.sign(signed.encode(), padding.PKCS1v15(), digest)).decode()
        return envelope

    def handshake(self, *, topic=TOPIC, kind="SubscriptionConfirmation", **fields):
        url = f"https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336412f37"
        said = f"You have chosen to subscribe to the topic {topic}.\nTo confirm the subscription, visit the SubscribeURL included in this message."
        return self.message(said, kind=kind, topic=topic, **{"Token": "2336412f37", "SubscribeURL": url, **fields})

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(path)
            status, body = self.answers.get(
                path.partition("?")[0],
                (200, self.certificate if path == CERTIFICATE_PATH else b"<ConfirmSubscriptionResponse/>"),
            )
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
            )
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Outgoing]:
        """Serve, and return a client whose resolver finds this server under Amazon's names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("sns.us-east-1.amazonaws.com", "sns.eu-west-1.amazonaws.com").configure_cert(context)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        trust = ssl.create_default_context()
        self._authority.configure_trust(trust)

        async def resolve(host, port):
            assert host.endswith(".amazonaws.com")
            assert port == 443
            return [("127.0.0.1", self.port)]

        async with server:
            yield Outgoing(allow_private=True, resolver=resolve, context=trust)
