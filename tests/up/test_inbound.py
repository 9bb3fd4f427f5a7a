"""``mailbase up`` with an inbound port: a whole way there and back."""

import asyncio
import contextlib
import email
import json
import smtplib
import socket
import time
import urllib.request

import psutil
import pytest

from inbound.inbound_kit import arf, dsn
from mailbase import db as database
from mailbase import servers

pytestmark = pytest.mark.timeout(180)

KEY = "mb_0123456789abcdef"
SECRET = "the secret key of the tests"


@pytest.fixture
def smtp_port():
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(up, method, path, body=None):
    """Call the API; return the JSON of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.port}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_for(check, seconds=60):
    """Return what the check returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def hand_over(port, to, mail, sender=""):
    """Hand a mail to the inbound server."""
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.sendmail(sender, [to], mail)


def test_there_and_back(start, smtp_port):
    """Letters leave under addresses of their own once the bounce MX is seen; what comes back to them bounces, complains and unsubscribes."""
    up = start(MAILBASE_INBOUND_PORT=str(smtp_port), MAILBASE_ADMIN_KEY=KEY, MAILBASE_SECRET_KEY=SECRET)
    up.ready()
    assert f"127.0.0.1:{smtp_port} (SMTP)" in "\n".join(up.said())
    assert len(up.parts("mailbase inbound")) == 1
    call(up, "POST", "/v1/domains", {"name": "shop.example"})
    consent = {"purpose": "newsletter", "text": "yes"}
    for name in ("bounces", "complains", "leaves", "stays"):
        call(
            up, "POST", "/v1/subscribers", {"email": f"{name}@post.example", "double_opt_in": False, "consent": consent}
        )
    draft = {
        "name": "n", "from": {"name": "Shop", "email": "news@shop.example"}, "subject": "Bread", "html": "<p>Hello</p>", "audience": {"all": True},
    }  # fmt: skip

    def send():
        campaign = call(up, "POST", "/v1/campaigns", draft)["id"]
        call(up, "POST", f"/v1/campaigns/{campaign}/send")
        wait_for(lambda: call(up, "GET", f"/v1/campaigns/{campaign}")["status"] == "sent")
        ids = {
            one["email"].partition("@")[0]: one["id"]
            for one in call(up, "GET", f"/v1/campaigns/{campaign}/deliveries")["data"]
        }
        folder = up.home / "data" / "outbox"
        return campaign, {
            name: email.message_from_bytes((folder / f"{id}.eml").read_bytes()) for name, id in ids.items()
        }

    _, letters = send()
    assert {letter["X-Mailbase-From"] for letter in letters.values()} == {"news@shop.example"}
    assert "mailto:" not in letters["leaves"]["List-Unsubscribe"]

    # What a verification does once DNS shows the bounce MX (tests/sending/test_domains.py).
    async def seen():
        connection = await database.connect(servers.postgres_url(up.home / "data"))
        await connection.execute("UPDATE domains SET verp = true")
        await connection.close()

    asyncio.run(seen())
    campaign, letters = send()
    senders = {name: letter["X-Mailbase-From"] for name, letter in letters.items()}
    assert all(one.startswith("b.") and one.endswith("@bounces.shop.example") for one in senders.values())
    assert len(set(senders.values())) == 4

    hand_over(smtp_port, senders["bounces"], dsn(senders["bounces"], recipient="bounces@post.example"))
    returned = "\n".join(
        f"{name}: {value}" for name, value in letters["complains"].items() if not name.startswith("X-Mailbase-From")
    )
    hand_over(smtp_port, "fbl@bounces.shop.example", arf(returned), sender="feedback@arf.mail.yahoo.com")
    mailto = letters["leaves"]["List-Unsubscribe"].partition("<mailto:")[2].partition(">")[0]
    hand_over(smtp_port, mailto, b"Subject: unsubscribe\r\n\r\n", sender="leaves@post.example")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        hand_over(smtp_port, "anybody@shop.example", b"Subject: spam\r\n\r\n")

    def arrived():
        stats = call(up, "GET", f"/v1/campaigns/{campaign}/stats")
        return stats["bounces"]["hard"] and stats["complaints"] and stats["unsubscribes"] and stats

    stats = wait_for(arrived)
    assert (
        stats["deliveries"]["sent"],
        stats["deliveries"]["bounced"],
        stats["complaints"],
        stats["unsubscribes"],
    ) == (3, 1, 1, 1)
    people = {one["email"].partition("@")[0]: one["status"] for one in call(up, "GET", "/v1/subscribers")["data"]}
    assert people == {"bounces": "bounced", "complains": "complained", "leaves": "unsubscribed", "stays": "active"}

    # A part that is killed is started again, and answers as before.
    (old,) = up.parts("mailbase inbound")
    old.kill()

    def back():
        with contextlib.suppress(OSError, smtplib.SMTPException, psutil.NoSuchProcess):
            hand_over(smtp_port, senders["stays"], dsn(senders["stays"]) + b"after\r\n")
            return up.parts("mailbase inbound")
        return None

    (new,) = wait_for(back)
    assert new.pid != old.pid
    assert up.stop() < 20
    assert up.process.returncode == 0


def test_a_port_that_is_taken(start, smtp_port):
    """A start on an inbound port somebody else has ends with one line that names the setting."""
    with socket.create_server(("127.0.0.1", smtp_port)):
        up = start(MAILBASE_INBOUND_PORT=str(smtp_port))
        assert up.process.wait(60) == 1
    assert any("MAILBASE_INBOUND_PORT" in line and str(smtp_port) in line for line in up.said())
