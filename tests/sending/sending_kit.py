"""Domains, campaigns and people by plain SQL, and real workers, for the tests of sending."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from mailbase.campaigns.recount import recount
from mailbase.letters.compile import compile_campaign
from mailbase.letters.content import Content
from mailbase.sending.deliveries import deliveries
from mailbase.sending.signing import keys
from mailbase.vault import Vault

SECRET = "a-secret-for-tests-only"
VAULT = Vault([SECRET])
HTML = (
    "<html><body><p>Hello {{ subscriber.attributes.name | default('you') }} in {{ subscriber.attributes.city }}</p>"
    '<a href="https://shop.example/a">A</a></body></html>'
)


async def add_domain(db, name="news.example", *, preset="none", schedule=None, signing=False, rules=None):
    """Add a verified domain; with ``signing`` it gets a key of 1024 bits (quick to make). ``rules``: its own numbers of warm-up."""
    domain_id = await db.fetchval(
        "INSERT INTO domains (name, status, signing, verified_at) VALUES ($1, 'verified', $2, now()) RETURNING id",
        name,
        signing,
    )
    await db.execute(
        "INSERT INTO warmups (domain_id, preset, schedule, rules) VALUES ($1, $2, $3, $4)",
        domain_id, preset, schedule, rules or {},
    )  # fmt: skip
    if signing:
        private = keys.generate(1024)
        key_id = await db.fetchval(
            "INSERT INTO dkim_keys (domain_id, selector, state, private_key, public_key) VALUES ($1, 's1', 'active', '', $2) RETURNING id",
            domain_id, keys.public_key(private),
        )  # fmt: skip
        blob = VAULT.encrypt(keys.to_der(private), f"dkim:{key_id}")
        await db.execute("UPDATE dkim_keys SET private_key = $2 WHERE id = $1", key_id, blob)
    return domain_id


async def add_people(db, n, *, domain="example.com", prefix="p"):
    """Add active subscribers p1@…, p2@…; return their ids."""
    rows = await db.fetch(
        """
        INSERT INTO subscribers (email, email_key, domain, status, attributes)
        SELECT address, address, $2, 'active', jsonb_build_object('name', 'Ann ' || i, 'city', 'Oslo')
        FROM (SELECT i, $3 || i || '@' || $2 AS address FROM generate_series(1, $1::int) AS i) AS people
        RETURNING id
        """,
        n, domain, prefix,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def add_campaign(db, domain_id, people, *, html=HTML, on_crash="at_most_once", status="sending", send_until=None):
    """Add a campaign that is being sent, fanned out to ``people``; return its id."""
    compiled = compile_campaign(
        Content(subject="News for {{ subscriber.attributes.name }}", html=html), base_url="https://mail.example",
        postal_address="1 Street", locale="en", track_opens=True, track_clicks=True, utm=None,
    )  # fmt: skip
    async with db.transaction():
        campaign_id = await db.fetchval(
            """
            INSERT INTO campaigns (name, status, domain_id, from_name, from_email, subject, audience, on_crash, compiled, fanned_out,
                started_at, expected, audience_upper_id, audience_at, send_until)
            VALUES ('News', $1, $2, 'Shop', (SELECT 'news@' || name FROM domains WHERE id = $2), 'News', $3, $4, $5, true, now(), $6, 0, now(), $7)
            RETURNING id
            """,
            status, domain_id, {"all": True}, on_crash, msgspec.msgpack.encode(compiled), len(people), send_until,
        )  # fmt: skip
        await deliveries.create_slice(db, campaign_id, domain_id, people, slot=0)
    return campaign_id


async def states(db, campaign_id):
    """Return how many deliveries of a campaign are in each state; what a worker holds is leased, or marked."""
    rows = await db.fetch(
        """
        SELECT CASE WHEN delivery.state NOT IN ('queued', 'deferred') OR held.n IS NULL THEN delivery.state::text
            WHEN held.n <= held.marked THEN 'marked' ELSE 'leased' END AS state, count(*)
        FROM deliveries AS delivery LEFT JOIN (
            SELECT letter.id, letter.n, claims.marked FROM claims, unnest(ids) WITH ORDINALITY AS letter (id, n) WHERE letter.id <> ALL (aside)
        ) AS held ON held.id = delivery.id
        WHERE campaign_id = $1 GROUP BY 1
        """,
        campaign_id,
    )
    return {row["state"]: row["count"] for row in rows}


async def in_hand(db, *ids, campaign_id=None):
    """Let a worker hold letters, marked; return the fence."""
    return await db.fetchval(
        """
        INSERT INTO claims (fence, campaign_id, ids, marked, until)
        VALUES (nextval('fences'), $1, $2, cardinality($2::bigint[]), now() + interval '15 seconds') RETURNING fence
        """,
        campaign_id,
        ids,
    )


async def assert_counters(db, campaign_id):
    """Compare every counter of a campaign with a recount of its rows."""
    rows = await db.fetch(
        "SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 GROUP BY key HAVING sum(n) <> 0",
        campaign_id,
    )
    counted = {row["key"]: row["n"] for row in rows}
    assert counted == await recount(db, campaign_id)


RUN = """
import faulthandler, signal, sys, uvloop
faulthandler.register(signal.SIGUSR1)
from datetime import timedelta
from mailbase.config import Settings
from mailbase.home import complete
from mailbase.worker import run
uvloop.run(run(complete(Settings.from_env()), lease=timedelta(seconds=float(sys.argv[1]))))
"""


class WorkerProcess:
    """A real worker, in a process of its own, with leases short enough to wait for."""

    def __init__(
        self, database_url, data_dir: Path, *, smtp_port=None, workers=1, connections=10, lease=3.0, log=None, **env
    ):
        self.env = {
            "PATH": os.defpath,
            "MAILBASE_DATABASE_URL": database_url,
            "MAILBASE_DATA_DIR": str(data_dir),
            "MAILBASE_SECRET_KEY": SECRET,
            "MAILBASE_PUBLIC_URL": "https://mail.example",
            "MAILBASE_REDIS_URL": "unix:///nowhere/redis.sock",
            "MAILBASE_WORKERS": str(workers),
            **env,
        }
        if smtp_port is not None:
            self.env["MAILBASE_SMTP_URL"] = f"smtp://127.0.0.1:{smtp_port}?tls=none&connections={connections}"
        self.lease = lease
        self.log = log or data_dir / "worker.log"
        self.start()

    def start(self):
        """Start (again)."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(self.lease)], env=self.env, stdout=log, stderr=log
            )

    def signal(self, number):
        """Send a signal to it alone."""
        self.process.send_signal(number)

    def kill(self):
        """Kill it without a word."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=20):
        """Ask it to end, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)
