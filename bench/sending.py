"""What a letter costs from the queue to the sink: CPU of all our processes and PostgreSQL, against one RSA-2048 signature.

The letter: 24 kB of HTML, 18 tracked links, name and city, pixel, both parts; real PostgreSQL, real workers, a sink in its own
process (not counted), no TLS. Everything counts: fan-out, leases, marks, letters, signatures, SMTP, records, counters.

``python bench/sending.py [--letters N] [--workers N]``
"""

# ruff: noqa: E402, ASYNC110, ASYNC220  (the sink is found first; a benchmark may wait and poll)

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Self

import msgspec
import psutil
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from letters import sample
from mailbase import resources, servers
from mailbase.db import connect
from mailbase.letters.compile import compile_campaign
from mailbase.migrate import migrate
from mailbase.sending.deliveries.leases import CampaignLetter
from mailbase.sending.dispatch.compose import Stream, seal
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import Signer
from mailbase.tokens import Tokens
from mailbase.vault import Vault
from sink import Sink

SECRET = "the-secret-of-a-benchmark"
LIMITS = {"signed": 1.5, "unsigned": 0.5}
SPAWN = multiprocessing.get_context("spawn")
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


def _signatures(number: int) -> float:
    key = generate_private_key(65537, 2048)
    start = time.process_time()
    for _ in range(number):
        key.sign(b"x" * 600, PKCS1v15(), SHA256())
    return (time.process_time() - start) / number


def _signatures_until(stop: Event, answer: Connection) -> None:
    key = generate_private_key(65537, 2048)
    spent, number = 0.0, 0
    while not stop.wait(0.2):
        start = time.process_time()
        for _ in range(40):
            key.sign(b"x" * 600, PKCS1v15(), SHA256())
        spent += time.process_time() - start
        number += 40
    answer.send(spent / max(number, 1))


def signature_seconds(at_once: int) -> float:
    """Return the CPU time of one RSA-2048 signature while as many cores sign as will be sending."""
    with ProcessPoolExecutor(at_once) as cores:
        return sum(cores.map(_signatures, [1500] * at_once)) / at_once


class Signatures:
    """A process that signs now and then while letters are sent: ``seconds`` is one signature's mean under these very conditions."""

    def __enter__(self) -> Self:
        self.seconds = 0.0
        self._answer, theirs = Pipe(duplex=False)
        self._stop = SPAWN.Event()
        self._process = SPAWN.Process(target=_signatures_until, args=(self._stop, theirs), daemon=True)
        self._process.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self.seconds = self._answer.recv()
        self._process.join()


def cpu(*roots: psutil.Process) -> float:
    """Return user and system seconds of processes and everything below them, the ended included."""
    total = 0.0
    for root in roots:
        for process in [root, *root.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def parts(signature: float) -> None:
    """Print what the letter itself costs, measured here: everything else in the totals is SMTP, the database and the loop."""
    compiled = compile_campaign(
        sample(),
        base_url="https://mail.example.com",
        postal_address="1 Street",
        locale="en",
        track_opens=True,
        track_clicks=True,
        utm=None,
    )
    row = {
        "domain": "news.example",
        "from_name": "Shop",
        "from_email": "news@news.example",
        "reply_to": None,
        "headers": {},
        "verp": False,
        "compiled": msgspec.msgpack.encode(compiled),
    }
    stream = Stream(1, row, public_url="https://mail.example.com", tokens=Tokens([SECRET]))
    key = keys.generate()
    signer = Signer("news.example", "s1", key)
    now = datetime.now(UTC)
    letters = [
        CampaignLetter(
            id=n,
            subscriber_id=n,
            attempts=0,
            provider="other",
            tier=0,
            created_at=now,
            email=f"p{n}@example.com",
            attributes={"name": f"Ann {n}", "city": "Oslo"},
            tags=[],
            interests=[],
            locale=None,
            timezone=None,
        )
        for n in range(300)
    ]
    data = stream.compose(letters[0], "p@example.com", {}, None, now).message
    headers = [
        tuple(line.split(b": ", 1)) for line in data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").split(b"\r\n")
    ]
    body = data.partition(b"\r\n\r\n")[2]
    works = {
        f"hash of its {len(body) // 1000} kB": lambda _: sha256(body).digest(),
        "composed": lambda letter: stream.compose(letter, letter.email or "", {}, None, now),
        "bare signature": lambda _: key.sign(data[:600], PKCS1v15(), SHA256()),
        "eight signatures together": lambda _: signer.raw_all([data[:600]] * 8),
        "DKIM signature": lambda _: signer.sign(headers, body, now=0, canonical=True),
        "composed and signed": lambda letter: seal([stream.compose(letter, letter.email or "", {}, signer, now)]),
    }
    spent = dict.fromkeys(works, 0.0)
    for _ in range(5):
        for name, work in works.items():
            start = time.process_time()
            for letter in letters:
                work(letter)
            spent[name] += time.process_time() - start
    for name, seconds in spent.items():
        each = seconds / 5 / len(letters)
        print(f"  {name}: {each * 1e6:.0f} µs = {each / signature:.2f} signatures")


async def add_people(db, n: int) -> None:
    """Add active subscribers with a name and a city."""
    await db.execute(
        """
        INSERT INTO subscribers (email, email_key, domain, status, attributes)
        SELECT 'p' || i || '@example.com', 'p' || i || '@example.com', 'example.com', 'active', jsonb_build_object('name', 'Ann ' || i, 'city', 'Oslo')
        FROM generate_series(1, $1::int) AS i ON CONFLICT DO NOTHING
        """,
        n,
    )
    await db.execute("ANALYZE subscribers")


async def add_domain(db, name: str, *, signing: bool) -> int:
    """Add a domain without caps, with a key."""
    domain_id = await db.fetchval(
        "INSERT INTO domains (name, status, signing) VALUES ($1, 'verified', $2) RETURNING id", name, signing
    )
    await db.execute("INSERT INTO warmups (domain_id, preset) VALUES ($1, 'none')", domain_id)
    private = keys.generate()
    key_id = await db.fetchval(
        "INSERT INTO dkim_keys (domain_id, selector, state, private_key, public_key) VALUES ($1, 's1', 'active', '', $2) RETURNING id",
        domain_id,
        keys.public_key(private),
    )
    blob = Vault([SECRET]).encrypt(keys.to_der(private), f"dkim:{key_id}")
    await db.execute("UPDATE dkim_keys SET private_key = $2 WHERE id = $1", key_id, blob)
    return domain_id


async def launch(db, domain_id: int, upto: int) -> int:
    """Let a campaign to the first ``upto`` people begin; the workers do the rest."""
    compiled = compile_campaign(
        sample(),
        base_url="https://mail.example.com",
        postal_address="1 Street",
        locale="en",
        track_opens=True,
        track_clicks=True,
        utm=None,
    )
    campaign_id = await db.fetchval(
        """
        INSERT INTO campaigns (name, status, domain_id, from_name, from_email, subject, audience, compiled, audience_upper_id, audience_at, started_at)
        VALUES ('bench', 'sending', $1, 'Shop', (SELECT 'news@' || name FROM domains WHERE id = $1), 's', '{"all": true}', $2,
            (SELECT max(id) FROM (SELECT id FROM subscribers ORDER BY id LIMIT $3) AS first), now(), now())
        RETURNING id
        """,
        domain_id,
        msgspec.msgpack.encode(compiled),
        upto,
    )
    await db.execute("SELECT pg_notify('mailbase_sending', '')")
    return campaign_id


async def finished(db, campaign_id: int) -> None:
    """Wait until a campaign is sent."""
    while not await db.fetchval("SELECT finished_at IS NOT NULL FROM campaigns WHERE id = $1", campaign_id):
        await asyncio.sleep(0.2)


async def measure(db, roots: list[psutil.Process], domain_id: int, letters: int) -> float:
    """Send a campaign; print and return CPU per letter in signatures."""
    await finished(db, await launch(db, domain_id, 1000))
    with Signatures() as signatures:
        commits = await db.fetchval(COMMITS)
        before, start = [cpu(root) for root in roots], time.monotonic()
        campaign_id = await launch(db, domain_id, letters)
        await finished(db, campaign_id)
        seconds = time.monotonic() - start
        spent = [(cpu(root) - earlier) / letters for root, earlier in zip(roots, before, strict=True)]
        commits = await db.fetchval(COMMITS) - commits
    signature = signatures.seconds
    sent = await db.fetchval("SELECT count(*) FROM deliveries WHERE campaign_id = $1 AND state = 'sent'", campaign_id)
    assert sent == letters, f"{sent} of {letters} sent"
    print(
        f"  {letters / seconds:6.0f} letters/s   CPU a letter: workers {sum(spent[1:]) * 1e6:4.0f} µs + PostgreSQL {spent[0] * 1e6:4.0f} µs"
        f" = {sum(spent) * 1e6:4.0f} µs = {sum(spent) / signature:.2f} signatures of {signature * 1e6:.0f} µs; {letters / commits:.0f} letters a commit"
    )
    return sum(spent) / signature


async def bench(folder: Path, letters: int, workers: int) -> bool:
    """Run everything; return whether the limits were kept."""
    server = servers.postgres(folder)
    postgres = server.start()
    processes: list[subprocess.Popen] = []
    try:
        server.wait(postgres)
        db = await connect(server.url)
        await migrate(db, resources.migrations())
        await add_people(db, letters)
        signed = await add_domain(db, "signed.example", signing=True)
        unsigned = await add_domain(db, "unsigned.example", signing=False)
        with Sink() as sink:
            env = {
                **os.environ,
                "MAILBASE_DATABASE_URL": server.url,
                "MAILBASE_DATA_DIR": str(folder / "data"),
                "MAILBASE_SECRET_KEY": SECRET,
                "MAILBASE_REDIS_URL": "unix:///nowhere/redis.sock",
                "MAILBASE_SMTP_URL": f"smtp://127.0.0.1:{sink.port}?tls=none&connections=10",
                "MAILBASE_WORKERS": str(workers),
            }
            processes = [
                subprocess.Popen([sys.executable, "-m", "mailbase", "worker"], env=env) for _ in range(workers)
            ]
            roots = [psutil.Process(postgres.pid), *(psutil.Process(process.pid) for process in processes)]
            signature = signature_seconds(workers)
            print(
                f"one RSA-2048 signature: {signature * 1e6:.0f} µs; {workers} workers, {letters} letters of 24 kB HTML"
            )
            parts(signature)
            print("signed:")
            ratio = await measure(db, roots, signed, letters)
            print("unsigned:")
            plain = await measure(db, roots, unsigned, letters)
            after = signature_seconds(workers)
            print(f"one RSA-2048 signature afterwards: {after * 1e6:.0f} µs")
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
        await db.close()
    finally:
        for process in processes:
            process.kill()
        postgres.send_signal(server.stop_signal)
        postgres.wait(20)
    found = {"signed": ratio, "unsigned": plain}
    for name, limit in LIMITS.items():
        print(f"{name}: limit {limit:.1f} {'kept' if found[name] <= limit else 'MISSED'} ({found[name]:.2f})")
    return all(found[name] <= limit for name, limit in LIMITS.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailbase-bench-") as name:
        Path(name).chmod(0o755)
        sys.exit(0 if asyncio.run(bench(Path(name), given.letters, given.workers)) else 1)
