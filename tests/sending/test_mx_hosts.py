"""Straight to mail servers on hosts of their own: network namespaces, a real Postfix, IPv6, TLS and MTA-STS over real ports.

The campaign has 360 letters; ``MAILBASE_TEST_LETTERS=20000 pytest tests/sending/test_mx_hosts.py`` is its long form.
"""

import asyncio
import contextlib
import os
import re
import ssl
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
import trustme

from dns_server import DnsServer
from mailbase.campaigns import statistics
from mailbase.campaigns.statistics import Deliveries, Provider
from mailbase.config import Mx
from mailbase.sending.mx.mx_dns import DnsMxResolver
from mailbase.sending.mx.transport import Directory, MxTransport
from mailbase.sending.providers.providers import Providers
from netns import Host
from postfix import Postfix
from sending.mx_kit import envelope, policy, policy_server, server_tls
from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from smtp_peer import EHLO, SmtpPeer

LETTERS = int(os.environ.get("MAILBASE_TEST_LETTERS", "360"))
pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(180 + LETTERS // 5)]


def pem(authority: trustme.CA, *names: str) -> bytes:
    issued = authority.issue_cert(*names)
    return issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems)


@pytest.fixture
def reachable():
    """A folder that Postfix, which is not root, can reach."""
    with tempfile.TemporaryDirectory(prefix="mailbase-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


async def test_postfix_takes_letters_over_ipv6_and_verified_tls(reachable):
    """Over IPv6, at port 25, under an enforced policy fetched from port 443, a real Postfix takes two hundred letters."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Host(1) as host:
        zone = {
            ("fine.example", "MX"): ["10 mx.fine.example"],
            ("mx.fine.example", "AAAA"): [host.ipv6],
            ("_mta-sts.fine.example", "TXT"): ["v=STSv1; id=20261122"],
            ("mta-sts.fine.example", "A"): [host.ipv4],
        }
        certificate = pem(authority, "mx.fine.example")
        site = server_tls(authority, "mta-sts.fine.example")
        async with (
            DnsServer(zone) as dns,
            policy_server(site, lambda: policy("enforce", "mx.fine.example"), sock=host.listen(443)) as (_, asked),
            Postfix(
                reachable / "postfix",
                host.command,
                hostname="mx.fine.example",
                domain="fine.example",
                certificate=certificate,
            ) as postfix,
        ):
            directory = Directory(DnsMxResolver([dns.address]), None, allow_private=True, context=context)
            transport = MxTransport(
                Mx(), directory, Providers(), hostname="mail.shop.example", allow_private=True, context=context
            )
            letters = [envelope(f"u{n}@fine.example") for n in range(200)]
            outcomes: list = []
            for start in range(0, len(letters), 40):
                await transport.hand_over(letters[start : start + 40], outcomes.append)
            await transport.close()
            assert Counter((one.kind, one.code) for one in outcomes) == {("sent", 250): 200}
            deadline = time.monotonic() + 20
            while len(postfix.taken) < 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert sorted(postfix.taken) == sorted(letter.rcpt_to for letter in letters)
            assert len(asked) == 1
            assert f"[{host.near6}]: TLSv1.3" in postfix.log
            sessions = re.findall(r"disconnect from .*", postfix.log)
            assert all("starttls=1" in session for session in sessions if "mail=" in session)


class Greylisting(SmtpPeer):
    """Refuses each recipient once."""

    def __init__(self, **kw) -> None:
        self.seen_before: set[str] = set()
        super().__init__({"RCPT": self._rcpt}, **kw)

    def _rcpt(self, _peer, line):
        known = line in self.seen_before
        self.seen_before.add(line)
        return "250 2.1.5 ok" if known else "450 4.2.0 greylisted, please come again"


class Strict(SmtpPeer):
    """Ends each session with 421 after fifty letters, and after fifty in all, once, closes its door for three seconds."""

    def __init__(self, **kw) -> None:
        self.count: Counter = Counter()
        self.closed_until = 0.0
        self.turned_away = 0
        super().__init__({"MAIL": self._mail, "greeting": self._greet}, **kw)

    async def _serve(self, reader, writer):
        asyncio.current_task().session = object()
        await super()._serve(reader, writer)

    def _greet(self, _peer, _line):
        if time.monotonic() < self.closed_until:
            self.turned_away += 1
            return "421 4.7.0 too many letters from you, come again later"
        return "220 strict.example"

    def _mail(self, _peer, _line):
        session = asyncio.current_task().session
        if self.count.total() >= 50 and not self.closed_until:
            self.closed_until = time.monotonic() + 3
        closed = time.monotonic() < self.closed_until
        self.turned_away += closed
        if closed or self.count[session] == 50:
            return "421 4.7.0 fifty letters are enough for one session"
        self.count[session] += 1
        return "250 ok"


async def test_a_campaign_meets_three_tempers(db, database_url, reachable):
    """A fine provider, a greylisting one and one that answers 421 after fifty: every letter arrives once, and the figures agree."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(reachable / "ca.pem")
    with contextlib.ExitStack() as hosts:
        fine, grey, strict = (hosts.enter_context(Host(number)) for number in (1, 2, 3))
        sources = [f"{fine.near.rpartition('.')[0]}.{last}" for last in (251, 252)]
        for address in sources:
            fine.add_near(address)
        zone = {
            ("_mta-sts.fine.example", "TXT"): ["v=STSv1; id=1"],
            ("mta-sts.fine.example", "A"): [fine.ipv4],
        }
        for name, host in (("fine", fine), ("grey", grey), ("strict", strict)):
            zone[f"{name}.example", "MX"] = [f"10 mx.{name}.example"]
            zone[f"mx.{name}.example", "A"] = [host.ipv4]
        tls = server_tls(authority, "mx.grey.example")
        async with (
            DnsServer(zone) as dns,
            Postfix(
                reachable / "postfix", fine.command, hostname="mx.fine.example", domain="fine.example",
                certificate=pem(authority, "mx.fine.example"),
            ) as postfix,
            policy_server(
                server_tls(authority, "mta-sts.fine.example"), lambda: policy("enforce", "*.fine.example"), sock=fine.listen(443)
            ),
            Greylisting(sock=grey.listen(25), context=tls) as greylisting,
            Strict(sock=strict.listen(25)) as severe,
        ):  # fmt: skip
            greylisting.answers["EHLO"] = EHLO.replace("250-8BITMIME", "250-STARTTLS\n250-8BITMIME")
            expected = await campaign(
                db, database_url, reachable, SSL_CERT_FILE=str(reachable / "ca.pem"),
                MAILBASE_DNS_SERVERS=f"127.0.0.1:{dns.address[1]}", MAILBASE_SMTP_URL=f"mx:?source={sources[0]}&source={sources[1]}",
            )  # fmt: skip
            assert sorted(letter[1] for letter in greylisting.letters) == expected["grey"]
            assert sorted(letter[1] for letter in severe.letters) == expected["strict"]
            assert sorted(postfix.taken) == expected["fine"]
            assert severe.turned_away
            print(
                f"{3 * len(expected['grey'])} letters: greylisted {len(greylisting.letters)} on {greylisting.connections} connections,"
                f" turned away {severe.turned_away} times on {severe.connections}"
            )
            assert greylisting.seen("STARTTLS") == greylisting.connections
            assert set(re.findall(r"client=unknown\[([^\]]+)\]", postfix.log)) <= set(sources)


async def campaign(db, database_url, folder: Path, **env) -> dict[str, list[str]]:
    """Send a campaign to all three with one worker; return whom it was for, by provider."""
    domain_id = await add_domain(db)
    people = []
    for name in ("fine", "grey", "strict"):
        people += await add_people(db, LETTERS // 3, domain=f"{name}.example", prefix=name)
    await db.executemany(
        "INSERT INTO recipient_domains (domain, provider) VALUES ($1, $2)",
        [("fine.example", "site:fine.example"), ("strict.example", "site:strict.example")],
    )
    campaign_id = await add_campaign(db, domain_id, people)
    env |= {"MAILBASE_OUTGOING_PRIVATE": "on", "MAILBASE_HOSTNAME": "mail.shop.example"}
    worker = WorkerProcess(database_url, folder, lease=15.0, **env)
    try:
        deadline = time.monotonic() + 60 + LETTERS / 6
        while (found := await states(db, campaign_id)) != {"sent": len(people)}:
            assert time.monotonic() < deadline, (found, worker.log.read_text()[-3000:])
            ended = await db.fetch(
                "SELECT provider, state::text, last_reply FROM deliveries WHERE state IN ('failed', 'bounced', 'unknown') LIMIT 9"
            )
            assert not ended, ended
            # Nobody waits five minutes here: what was greylisted comes again now.
            await db.execute(
                "UPDATE deliveries SET due_at = now() WHERE state = 'deferred' AND last_reply LIKE '450 4.2.0%' AND due_at > now()"
            )
            await asyncio.sleep(0.25)
    finally:
        assert worker.stop() == 0
    await assert_counters(db, campaign_id)
    said = await statistics.of_campaign(db, campaign_id)
    assert (said.recipients, said.deliveries) == (len(people), Deliveries(0, len(people), 0, 0, 0, 0, 0))
    assert said.providers == [Provider("other", len(people), 0, 0)]
    # Greylisting cost each of its letters one attempt; being turned away cost nobody any.
    attempts = await db.fetch(
        "SELECT split_part(email, '@', 2) AS domain, min(attempts), max(attempts) FROM deliveries"
        " JOIN subscribers ON subscribers.id = subscriber_id WHERE campaign_id = $1 GROUP BY 1 ORDER BY 1",
        campaign_id,
    )
    assert [tuple(row) for row in attempts] == [
        ("fine.example", 1, 1),
        ("grey.example", 2, 2),
        ("strict.example", 1, 1),
    ]
    return {
        name: sorted(f"{name}{n}@{name}.example" for n in range(1, LETTERS // 3 + 1))
        for name in ("fine", "grey", "strict")
    }
