"""``/v1/domains/{id}/warmup``, forecasts and the command line: what an owner sees of the warm-up, and may say about it."""

import subprocess
import sys
from datetime import UTC, datetime

from mailbase.campaigns import list_mix
from mailbase.sending.dns import Unanswered
from mailbase.sending.providers.lookup import MailHosts
from mailbase.sending.relays import egress
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.outlook import outlook

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def domain(client, **more):
    """Set a domain up; return its path."""
    made = await client.post("/v1/domains", json={"name": "news.example.com", "warmup": {"preset": "standard"}, **more})
    assert made.status_code == 201, made.text
    return f"/v1/domains/{made.json()['id']}"


async def test_each_provider_is_shown_with_the_reason(client, db):
    """Level, cap, used, state and why in words, the total first; the keys of the contract stay."""
    path = await domain(client)
    domain_id = int(path.rpartition("/")[2])
    await client.patch(f"{path}/warmup", json={"rules": {"active_hours": 1}})
    async with db.transaction():
        await warmup_take.take(db, domain_id, "outbox", {"yahoo": [0] * 2, "google": [0] * 2}, to_outbox=True)
    shown = (await client.get(f"{path}/warmup")).json()
    assert {"preset", "day", "cap_today", "sent_today", "state"} <= shown.keys()
    assert (shown["preset"], shown["cap_today"], shown["sent_today"]) == ("standard", 200, 4)
    assert [(one["provider"], one["level"], one["cap"], one["used"]) for one in shown["providers"]] == [
        ("*", 1, 200, 4), ("google", 1, 200, 2), ("yahoo", 1, 70, 2),
    ]  # fmt: skip
    assert all(one["state"] == "warming" and one["reason"] for one in shown["providers"])


async def test_the_owner_overrides_and_the_history_tells(client):
    """Level, pause and ceiling of one provider, hold, rules, pause and resume: each shows, and each is written down."""
    path = await domain(client)
    changes = {
        "hold": True,
        "rules": {"active_hours": 12, "target": 5000},
        "provider_caps": {"mail.ru": 7, "yahoo": 30},
        "providers": [
            {"provider": "*", "level": 4},
            {"provider": "yahoo", "level": 3},
            {"provider": "apple", "state": "paused"},
        ],
    }
    shown = (await client.patch(f"{path}/warmup", json=changes)).json()
    by_name = {one["provider"]: one for one in shown["providers"]}
    assert (shown["hold"], shown["state"], shown["cap_today"], shown["rules"]["active_hours"]) == (
        True,
        "held",
        2000,
        12,
    )
    assert (by_name["yahoo"]["level"], by_name["yahoo"]["cap"]) == (3, 30)
    assert (by_name["apple"]["state"], by_name["apple"]["cap"]) == ("paused", 0)
    assert shown["provider_caps"] == {"mailru": 7, "yahoo": 30}
    assert (by_name["yahoo"]["state"], by_name["yahoo"]["reason"]) == (
        "held",
        "By hand: levels are held. By hand: level 3.",
    )
    paused = (await client.patch(f"{path}/warmup", json={"state": "paused"})).json()
    assert (paused["state"], paused["cap_today"]) == ("paused", 0)
    assert {(one["state"], one["reason"]) for one in paused["providers"]} == {("paused", "Paused by hand.")}
    resumed = (await client.patch(f"{path}/warmup", json={"state": "warming", "hold": False})).json()
    assert (resumed["state"], resumed["cap_today"]) == ("warming", 2000)
    history = (await client.get(f"{path}/warmup/history?include_total=true")).json()
    said = [one["decision"] for one in reversed(history["data"])]
    assert said == ["preset", "ceilings", "rules", "level", "level", "pause", "pause", "rules", "resume"]
    assert history["total"] == len(said)
    exported = (await client.get(f"{path}/warmup/history.csv")).text.splitlines()
    assert exported[0].startswith("id,at,egress,provider,decision")
    assert len(exported) == len(said) + 1


async def test_what_cannot_be_is_refused(client):
    """A preset without its schedule, an unknown rule, a provider nobody is called, a domain that is not there."""
    path = await domain(client)
    assert (await client.patch(f"{path}/warmup", json={"preset": "custom"})).status_code == 422
    assert (await client.patch(f"{path}/warmup", json={"rules": {"active_hours": 0}})).status_code == 422
    assert (await client.patch(f"{path}/warmup", json={"rules": {"nonsense": 1}})).status_code == 400
    assert (await client.patch(f"{path}/warmup", json={"providers": [{"provider": "No!"}]})).status_code == 422
    for change in ({"providers": [{"provider": "nosuch", "level": 4}]}, {"provider_caps": {"gogle": 5}}):
        refused = await client.patch(f"{path}/warmup", json=change)
        assert refused.status_code == 422
        assert "unknown_provider" in refused.text
        assert "google" in refused.text
    refused = await client.patch(
        f"{path}/warmup", json={"providers": [{"provider": "google", "egress": "nosuch", "level": 4}]}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_egress")
    assert "outbox" in refused.text
    assert (await client.get(f"{path}/warmup/history?include_total=true")).json()["total"] == 1
    assert (await client.get("/v1/domains/999/warmup")).status_code == 404
    assert (await client.get("/v1/domains/999/warmup/history")).status_code == 404


async def test_each_way_out_counts_before_the_first_letter(client, db):
    """With named relays beside our own the caps of all of them are shown and forecast, by their weights, though nothing was sent yet."""
    domain_id = int((await domain(client)).rpartition("/")[2])
    await db.execute(
        "INSERT INTO relays (name, host, port, tls, weight, enabled) VALUES ('ra', 'a', 25, 'none', 2, true), ('rb', 'b', 25, 'none', 1, false)"
    )
    assert (await warmup.get(db, domain_id, to_outbox=False)).cap_today == 400
    shown = await warmup.detail(db, domain_id, to_outbox=False)
    assert [(one.provider, one.egress) for one in shown.providers] == [("*", "ra"), ("*", "relay")]
    plan = await outlook(db, domain_id, {"google": 600}, START, to_outbox=False, grow=False, spread=False)
    assert [(day.count, day.cap) for day in plan.days] == [(400, 400), (200, 200)]


async def test_ceilings_bind_a_domain_without_warm_up(client, db):
    """``provider_caps`` hold whatever the preset, given with the domain or later, and can be lifted again."""
    path = await domain(client, warmup={"preset": "none"}, provider_caps={"google": 5})
    domain_id = int(path.rpartition("/")[2])
    assert (await client.get(path)).json()["provider_caps"] == {"google": 5}
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)

    async def take(egress):
        async with db.transaction():
            wanted = {"google": [0] * 4, "yahoo": [0] * 100}
            return (await warmup_take.take(db, domain_id, egress, wanted, to_outbox=True, now=at)).granted

    assert await take("relay") == {"google": 4, "yahoo": 100}
    assert await take("mx") == {"google": 1, "yahoo": 100}
    assert (await client.patch(path, json={"provider_caps": {}})).json()["provider_caps"] == {}
    assert await take("relay") == {"google": 4, "yahoo": 100}


def plan(*arguments):
    """Run the command without any setting."""
    return subprocess.run(
        [sys.executable, "-m", "mailbase", "warmup", "plan", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )


def test_the_plan_is_printed_day_by_day():
    """Without database or network: a line a day, what holds it, and the last day; wrong use exits with 2."""
    printed = plan("--preset", "cautious", "--recipients", "300", "--mix", "google=0.6,yahoo=0.2")
    lines = printed.stdout.splitlines()
    assert printed.returncode == 0, printed.stderr
    assert lines[1].split()[:4] == ["1", "50", "50", "50"]
    assert lines[-1] == f"300 of 300 letters planned by day; through on day {len(lines) - 2}, if every day goes well."
    assert plan("--preset", "cautious", "--recipients", "0").returncode == 2
    assert plan("--preset", "standard", "--recipients", "9", "--mix", "google=0.9,yahoo=0.9").returncode == 2
    assert plan("--preset", "custom", "--recipients", "9").returncode == 1


class Dns:
    """Knows one domain."""

    async def mail_hosts(self, domain):
        """Return its hosts; no server answers about any other."""
        if domain == "shop.example":
            return MailHosts(("aspmx.l.google.com",), 60)
        if domain == "own.example":
            return MailHosts(("mail.hoster.example",), 60)
        raise Unanswered(domain)


async def test_a_list_that_is_not_imported_is_counted_by_provider(tmp_path):
    """Large domains are known by heart, others by their mail hosts, the rest is nobody's; each address counts once."""
    path = tmp_path / "list.csv"
    path.write_bytes(
        "name,email\r\nAnn,Ann@GMAIL.com\nAnn,ann@gmail.com\nBo,bo@shop.example\n\nCy,<cy@own.example>\n"
        "Di,di@silent.example\nEd,nothing\nFi,\xff fi@web.de\n".encode("latin-1", "replace")
    )
    mix = await list_mix.read(path, resolver=Dns())
    assert mix.demand == {"google": 2, "site:hoster.example": 1, "other": 1, "gmx": 1}
    assert (mix.passed_over, mix.unanswered) == (1, 1)


async def test_a_domain_that_never_sent_shows_the_ways_out_there_are(db):
    """What the workers say their settings name, one entry each, and the relays with names; what they said long ago no more."""
    domain_id = await db.fetchval("INSERT INTO domains (name) VALUES ('news.example.com') RETURNING id")

    async def entries():
        shown = await warmup.detail(db, domain_id, to_outbox=False)
        return [(one.egress, one.provider) for one in shown.providers], shown.cap_today

    assert await entries() == ([("relay", "*")], 50)
    await egress.see(db, ["relay"])
    await db.execute("UPDATE egress SET seen_at = now() - interval '1 minute'")
    await egress.see(db, ["mx:192.0.2.2", "mx:192.0.2.1"])
    assert await entries() == ([("mx:192.0.2.1", "*"), ("mx:192.0.2.2", "*")], 100)
    await db.execute(
        "INSERT INTO relays (name, host, port, tls, weight) VALUES ('second', 'relay.example', 25, 'none', 1), ('spare', 'relay.example', 26, 'none', 0)"
    )
    assert (await entries())[0] == [("mx:192.0.2.1", "*"), ("mx:192.0.2.2", "*"), ("second", "*")]
    # With all workers gone it is what they said last.
    await db.execute("UPDATE egress SET seen_at = seen_at - interval '1 day'")
    assert (await entries())[1] == 150
