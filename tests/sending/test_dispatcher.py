"""The worker against servers that misbehave: a relay that refuses us, a database that restarts, letters that cannot be made."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import dkim

from mailbase import db as database
from mailbase import migrate, resources, servers
from mailbase.audience import addresses
from mailbase.letters.content import Attachment, Sender
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from sending.test_crash import is_final, sent_at_least, wait_for, workers
from sink import Sink
from smtp_peer import SmtpPeer


async def test_a_relay_that_refuses_us_stops_and_says_why(db, database_url, tmp_path):
    """A refusal at the greeting loses nothing and burns no attempt, and is asked for once a stop; when the relay takes letters again they go out."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 30))
    async with SmtpPeer({"greeting": "554 5.7.1 your account is closed"}) as peer:
        with workers(1, database_url, tmp_path, smtp_port=peer.port):
            await wait_for(lambda: db.fetchval("SELECT failures >= 2 FROM egress"))
            row = await db.fetchrow("SELECT name, reason FROM egress")
            assert row["name"] == "relay"
            assert "your account is closed" in row["reason"]
            assert await db.fetchval("SELECT max(attempts) FROM deliveries") == 0
            assert peer.connections <= 4
            peer.answers["greeting"] = "220 welcome back"
            await wait_for(lambda: is_final(db, campaign_id))
            assert await states(db, campaign_id) == {"sent": 30}
            await wait_for(lambda: db.fetchval("SELECT failures = 0 AND stopped_until IS NULL FROM egress"))
        assert len(peer.letters) == 30
    await assert_counters(db, campaign_id)


async def test_a_sender_that_is_refused_stops_its_own_domain_only(db, database_url, tmp_path):
    """A relay that refuses one domain's sender stops that domain, with its words; the other's letters and messages go on."""
    good, bad = await add_domain(db), await add_domain(db, "bad.example")
    refused = await add_campaign(db, bad, await add_people(db, 30))
    fine = await add_campaign(db, good, await add_people(db, 30, prefix="q"))
    await messages.create(
        db,
        NewMessage(
            kind="transactional", from_=Sender("", "a@bad.example"), to=addresses.parse("ann@example.com"), subject="s", text="t"
        ),
    )  # fmt: skip

    def mail(_peer, line):
        return "553 5.7.1 Sender address rejected: not owned by user" if "bad.example>" in line else "250 ok"

    async with SmtpPeer({"MAIL": mail}) as peer:
        with workers(1, database_url, tmp_path, smtp_port=peer.port):
            await wait_for(lambda: is_final(db, fine))
            await wait_for(lambda: db.fetchval("SELECT state = 'bounced' FROM deliveries WHERE message_id IS NOT NULL"))
            await wait_for(lambda: db.fetchval("SELECT stopped_at IS NOT NULL FROM domains WHERE id = $1", bad))
            await wait_for(lambda: states_are(db, refused, {"queued": 30}))
    assert await states(db, fine) == {"sent": 30}
    assert "not owned by user" in await db.fetchval("SELECT stopped_reason FROM domains WHERE id = $1", bad)
    assert not await db.fetchval("SELECT count(*) FROM egress WHERE failures > 0")
    assert await db.fetchval("SELECT max(attempts) FROM deliveries WHERE campaign_id = $1", refused) == 0


async def states_are(db, campaign_id, expected):
    """Whether a campaign's deliveries are in these states."""
    return await states(db, campaign_id) == expected


async def test_refused_recipients_are_told_apart(db, database_url, tmp_path):
    """An unknown user ends the subscriber; a mailbox that is busy is tried again later; the rest is sent."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 20))

    def answer(_peer, line):
        if "<p1@" in line:
            return "550 5.1.1 no such user here"
        return "450 4.2.1 busy, try again in 10 minutes" if "<p2@" in line else "250 ok"

    async with SmtpPeer({"RCPT": answer}) as peer:
        with workers(1, database_url, tmp_path, smtp_port=peer.port):
            await wait_for(lambda: sent_at_least(db, campaign_id, 18))
            await wait_for(lambda: db.fetchval("SELECT count(*) = 1 FROM bounces"))
            await wait_for(lambda: db.fetchval("SELECT count(*) = 1 FROM deliveries WHERE state = 'deferred'"))
    assert await states(db, campaign_id) == {"sent": 18, "bounced": 1, "deferred": 1}
    assert await db.fetchval("SELECT email FROM subscribers WHERE status = 'bounced'") == "p1@example.com"
    wait = await db.fetchval("SELECT extract(epoch FROM due_at - now()) FROM deliveries WHERE state = 'deferred'")
    assert 500 < wait < 730
    await assert_counters(db, campaign_id)


async def test_confirmations_and_files_arrive_whole_and_signed(db, database_url, tmp_path):
    """A confirmation says that it is automatic, an attachment comes out as it went in, and the signature verifies."""
    await add_domain(db, signing=True)
    public = await db.fetchval("SELECT public_key FROM dkim_keys")
    for kind, files in (
        ("confirmation", []),
        ("transactional", [Attachment("a  b.bin", "application/zip", bytes(range(256)))]),
    ):
        await messages.create(
            db,
            NewMessage(
                kind=kind, from_=Sender("Café", "hello@news.example"), to=addresses.parse("ann@example.com"), subject="Grüße",
                html="<p>Hello {{ nobody }}</p>", attachments=files,
            ),
        )  # fmt: skip
    async with SmtpPeer() as peer:
        with workers(1, database_url, tmp_path, smtp_port=peer.port):
            await wait_for(lambda: asyncio.sleep(0, len(peer.letters) == 2))
    first, second = sorted((content for _, _, content in peer.letters), key=len)
    assert b"Auto-Submitted: auto-generated\r\n" in first
    assert b"Auto-Submitted" not in second
    for content in (first, second):
        assert b"List-Unsubscribe" not in content
        record = b"v=DKIM1; k=rsa; p=" + public.encode()
        assert dkim.verify(content, dnsfunc=lambda *_, record=record, **__: record)


async def test_a_message_to_someone_suppressed_meanwhile_is_skipped(db, database_url, tmp_path):
    """Suppression is looked at once more at the hand-over; a confirmation passes what its confirming would lift."""
    for kind, email in (("transactional", "ann@example.com"), ("confirmation", "bob@example.com")):
        await messages.create(
            db,
            NewMessage(kind=kind, from_=Sender("", "a@news.example"), to=addresses.parse(email), subject="s", text="t"),
        )
        await db.execute("INSERT INTO suppressions (kind, value, reason) VALUES ('email', $1, 'hard_bounce')", email)
    async with SmtpPeer() as peer:
        with workers(1, database_url, tmp_path, smtp_port=peer.port):
            await wait_for(
                lambda: db.fetchval("SELECT count(*) = 2 FROM deliveries WHERE state IN ('sent', 'skipped')")
            )
    assert [to for _, to, _ in peer.letters] == ["bob@example.com"]


async def test_letters_go_to_the_outbox_where_there_is_no_relay(db, database_url, tmp_path):
    """Without an SMTP target each letter is a file, named by its delivery, with its envelope on top."""
    domain_id = await add_domain(db, preset=None)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 120))
    with workers(1, database_url, tmp_path):
        await wait_for(lambda: is_final(db, campaign_id))
        await wait_for(lambda: db.fetchval("SELECT sum(taken) = 120 FROM allowances"))
    assert await states(db, campaign_id) == {"sent": 120}
    ids = {row["id"] for row in await db.fetch("SELECT id FROM deliveries")}
    files = {int(file.stem): file for file in (tmp_path / "outbox").glob("*.eml")}
    assert files.keys() == ids
    assert next(iter(files.values())).read_bytes().startswith(b"X-Mailbase-From: news@news.example\r\nX-Mailbase-To: ")


async def test_unreadable_content_holds_up_nobody_else(db, database_url, tmp_path):
    """A campaign whose frozen content this version cannot read waits, and the others are sent."""
    domain_id = await add_domain(db)
    broken = await add_campaign(db, domain_id, await add_people(db, 3))
    await db.execute("UPDATE campaigns SET compiled = '\\x00' WHERE id = $1", broken)
    sound = await add_campaign(db, domain_id, await add_people(db, 5, prefix="q"))
    with workers(1, database_url, tmp_path):
        await wait_for(lambda: is_final(db, sound))
    assert await states(db, sound) == {"sent": 5}
    assert await states(db, broken) == {"queued": 3}


async def test_a_database_that_restarts_costs_nobody_a_letter(tmp_path):
    """PostgreSQL is restarted in the middle: the worker waits and goes on; nobody is lost, nobody gets two."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-restart-"))
    folder.chmod(0o755)
    server = servers.postgres(folder)
    process = server.start()
    try:
        server.wait(process)
        db = await database.connect(server.url)
        await migrate.migrate(db, resources.migrations())
        campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 800))
        with Sink(tmp_path / "taken", delay=0.02) as sink:
            worker = WorkerProcess(server.url, tmp_path, smtp_port=sink.port, lease=10)
            try:
                await wait_for(lambda: sent_at_least(db, campaign_id, 100))
                await db.close()
                process.send_signal(server.stop_signal)
                process.wait(20)
                process = server.start()
                server.wait(process)
                db = await database.connect(server.url)
                await wait_for(lambda: is_final(db, campaign_id))
                assert worker.stop() == 0
            finally:
                worker.process.kill()
            taken = [to for to, _ in sink.taken()]
        assert len(taken) == len(set(taken)) == 800
        assert await states(db, campaign_id) == {"sent": 800}
        await assert_counters(db, campaign_id)
        await db.close()
    finally:
        process.send_signal(server.stop_signal)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
