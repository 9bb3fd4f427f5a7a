"""What keeps bots out, layer by layer; and what is held, which the owner releases or deletes."""

import asyncio
import base64
import itertools
import time
from datetime import UTC, datetime, timedelta

import altcha
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbase.audience import addresses
from mailbase.doctor import forms
from mailbase.errors import Conflict
from mailbase.optin import attacks, cooldowns, proof, submissions
from mailbase.optin.mail_hosts import MailHosts
from mailbase.sending.dns import Unanswered
from mailbase.sending.providers.lookup import MailHosts as Hosts
from optin.optin_kit import ENTRY, JSON, letters, make_form, person, submit

KEY = b"k" * 32
SECRETS = ("the secret key of the tests",)


async def held(client, **query):
    """Return what waits for the owner, oldest first."""
    return (await client.get("/v1/submissions", params={"outcome": "held", **query})).json()["data"][::-1]


async def reasons(client, *, about=None):
    """Return the reasons of what is held, or of everything."""
    shown = await held(client) if about is None else (await client.get("/v1/submissions")).json()["data"][::-1]
    return [(one["verdict"], one["reasons"]) for one in shown]


# ── The layers ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_sign_has_a_name(client, anonymous, app, db):
    """The visitor is told the same; the owner sees why, and no letter goes out."""
    form = await make_form(client, protection={"min_seconds": 3, "role": "warn"})
    sign, now = app.state.tokens.sign, int(time.time())
    for entry in (
        {"_hp": "x"},
        {"_t": sign("form_time", form["id"], now)},
        {"_t": "AAAA"},
        {"_t": sign("form_time", form["id"] + 1, now - 60)},
        {"_t": sign("form_time", form["id"], now + 600)},
        {"email": "a@mailinator.com"},
        {"email": "info@example.org"},
        {"email": "аda@example.org"},
    ):
        answer = await submit(anonymous, form, **entry)
        assert (answer.status_code, answer.json()) == (202, {"status": "pending"}), entry
    assert await reasons(client) == [
        ("bot", ["honeypot"]),
        ("bot", ["too_fast"]),
        ("suspect", ["forged_time"]),
        ("suspect", ["forged_time"]),
        ("suspect", ["forged_time"]),
        ("suspect", ["disposable"]),
        ("suspect", ["role"]),
        ("suspect", ["look_alike"]),
    ]
    assert await db.fetchval("SELECT count(*) FROM messages") == 0
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
    caught = (await client.get("/v1/protection", params={"form_id": form["id"]})).json()
    assert caught["held"] == 8
    assert caught["caught"][0]["reasons"]["forged_time"] == 3


async def test_one_weak_sign_is_noted_and_two_are_enough(client, anonymous, app, db):
    """A script that names neither page nor program, at a form that belongs to certain pages."""
    form = await make_form(client, allowed_origins=["https://shop.example"])
    old = app.state.tokens.sign("form_time", form["id"], int(time.time()) - 100_000)
    await submit(anonymous, form)
    await submit(anonymous, form, email="b@example.org", _t=old)
    assert await reasons(client, about="all") == [("pass", ["no_origin"]), ("suspect", ["old_time", "no_origin"])]
    assert len(await letters(db)) == 1


async def test_a_form_may_refuse_or_allow(client, anonymous, db):
    """Deny says so beside the field, in the visitor's language; allow asks nothing; without quarantine reasons are only noted."""
    strict = await make_form(client, protection={"min_seconds": 0, "disposable": "deny", "role": "deny"})
    for email, code in (("a@mailinator.com", "disposable_address"), ("info@example.org", "role_address")):
        answer = await submit(anonymous, strict, email=email)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code)
        page = await anonymous.post(
            f"/f/{strict['key']}",
            data={**ENTRY, "email": email},
            headers={"Accept": "text/html", "Accept-Language": "ru"},
        )
        assert page.status_code == 422
        assert "адрес" in page.text
    kind = await make_form(client, protection={"min_seconds": 0, "disposable": "allow", "role": "allow"})
    await submit(anonymous, kind, email="a@mailinator.com")
    open_ = await make_form(client, protection={"min_seconds": 0, "quarantine": False})
    await submit(anonymous, open_, email="b@mailinator.com")
    assert await held(client) == []
    assert len(await letters(db, "a@mailinator.com")) == len(await letters(db, "b@mailinator.com")) == 1
    assert (await reasons(client, about="all"))[-1] == ("pass", ["disposable"])


async def test_the_same_time_again_and_again_is_a_replay(client, anonymous, app, db):
    """A page may be sent a few times from one network; a script that keeps its time is held."""
    form = await make_form(client)
    stale = app.state.tokens.sign("form_time", form["id"], int(time.time()) - 60)
    for n in range(22):
        await submit(anonymous, form, email=f"p{n}@example.org", _t=stale)
    assert await reasons(client) == [("suspect", ["replayed_time"])] * 2
    assert await db.fetchval("SELECT count(*) FROM messages") == 20


async def test_one_mailbox_is_limited_across_forms(client, anonymous, db):
    """The ordinary answer, nothing sent, nothing joined: ten an hour are more than anybody needs."""
    one, other = await make_form(client), await make_form(client)
    for n in range(12):
        answer = await submit(anonymous, other if n % 2 else one, email=f"a.d.a+{n}@gmail.com")
        assert answer.status_code == 202
    assert await reasons(client) == [("limited", ["limited_address"])] * 2
    assert await db.fetchval("SELECT count(*) FROM messages") == 1


async def test_a_mail_domain_is_limited(client, anonymous, app, db):
    """Everybody at one company cannot be written to within ten minutes; at a big provider they can."""
    form = await make_form(client)
    window = int(time.time()) // 600
    for domain in ("victim.example", "gmail.com"):
        await app.state.redis.set(f"mailbase:limit:domain:{domain}:600:{window}", 200)
    await submit(anonymous, form, email="a@victim.example")
    await submit(anonymous, form, email="a@gmail.com")
    assert await reasons(client) == [("limited", ["limited_domain"])]
    assert await db.fetchval("SELECT email FROM messages") == "a@gmail.com"


class _Dns:
    """A resolver of a few domains; whoever asks for another waits forever."""

    def __init__(self):
        self.asked = []

    async def mail_hosts(self, domain):
        self.asked.append(domain)
        await asyncio.sleep(0)
        if domain == "broken.test-host.dev":
            raise Unanswered("SERVFAIL")
        if domain == "silent.test-host.dev":
            await asyncio.Event().wait()
        return Hosts(("mx.test-host.dev",) if domain == "good.test-host.dev" else (), 300)


async def test_a_domain_that_takes_no_mail_is_seen(client, anonymous, app, db):
    """No mail host: held. No answer: let in. Many at once ask once, and the answer is remembered."""
    dns = _Dns()
    app.state.guard.hosts = MailHosts(dns, patience=0.05)
    form = await make_form(client)
    await asyncio.gather(*(submit(anonymous, form, email=f"p{n}@good.test-host.dev") for n in range(4)))
    for domain in ("gone.test-host.dev", "gone.test-host.dev", "broken.test-host.dev", "silent.test-host.dev"):
        await submit(anonymous, form, email=f"a@{domain}")
    await submit(anonymous, form, email="a@gmail.com")
    assert sorted(dns.asked) == sorted({f"{name}.test-host.dev" for name in ("good", "gone", "broken", "silent")})
    assert await reasons(client) == [("suspect", ["no_mail_host"])] * 2
    assert await db.fetchval("SELECT count(*) FROM messages") == 7


# ── What is held ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_held_goes_its_way_when_released(client, anonymous, db):
    """The letter goes out, with what was entered; consents keep the time they were given; a second release is refused."""
    form = await make_form(client)
    await submit(anonymous, form, _hp="x", city="Paris", _page="https://shop.example/a")
    [one] = await held(client)
    assert (one["email"], one["fields"], one["interests"], one["ip"]) == (
        "Ada@example.org",
        {"city": "Paris"},
        ["news"],
        "127.0.0.1",
    )
    await db.execute("UPDATE submissions SET at = at - interval '2 days'")
    answer = await client.post(f"/v1/submissions/{one['id']}/release")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "accepted")
    assert answer.json()["released_at"] is not None
    assert len(await letters(db)) == 1
    [confirmation] = await db.fetch("SELECT evidence FROM confirmations")
    [consent] = confirmation["evidence"]["acts"][0]["consents"]
    assert datetime.fromisoformat(consent["at"]) < datetime.now(UTC) - timedelta(days=1)
    assert (consent["page"], (await person(client))["status"]) == ("https://shop.example/a", "pending")
    assert (await client.post(f"/v1/submissions/{one['id']}/release")).status_code == 409
    assert (await client.get(f"/v1/submissions/{one['id']}")).json()["email"] == "Ada@example.org"


async def test_what_is_held_can_be_deleted(client, anonymous, db):
    """Nothing stays."""
    form = await make_form(client)
    await submit(anonymous, form, _hp="x")
    [one] = await held(client)
    assert (await client.delete(f"/v1/submissions/{one['id']}")).status_code == 204
    for path in ("", "/release"):
        method = client.post if path else client.get
        assert (await method(f"/v1/submissions/{one['id']}{path}")).status_code == 404
    assert await db.fetchval("SELECT count(*) FROM submissions") == 0


async def test_submissions_are_listed_by_verdict_and_form(client, anonymous):
    """Paged, newest first; another word is refused."""
    one, other = await make_form(client), await make_form(client)
    for n in range(3):
        await submit(anonymous, one, _hp="x", email=f"p{n}@example.org")
    await submit(anonymous, other)
    first = (await client.get("/v1/submissions", params={"verdict": "bot", "limit": 2, "include_total": "true"})).json()
    assert (len(first["data"]), first["total"]) == (2, 3)
    rest = await client.get("/v1/submissions", params={"verdict": "bot", "limit": 2, "cursor": first["next_cursor"]})
    assert [submission["email"] for submission in rest.json()["data"]] == ["p0@example.org"]
    [passed] = (await client.get("/v1/submissions", params={"form_id": other["id"]})).json()["data"]
    assert (passed["verdict"], passed["outcome"], passed["email"]) == ("pass", "accepted", "Ada@example.org")
    for name in ("verdict", "outcome"):
        refused = await client.get("/v1/submissions", params={name: "evil"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, name)


async def test_nothing_personal_of_nobodys_stays_for_long(client, anonymous, db):
    """After 30 days a held submission is a number in the counts; erasing an address takes it at once."""
    form = await make_form(client)
    await submit(anonymous, form, _hp="x")
    await submit(anonymous, form)
    await db.execute("UPDATE submissions SET at = at - interval '31 days'")
    await submissions.strip(db)
    bot, real = await db.fetch("SELECT * FROM submissions ORDER BY id")
    assert (bot["ip"], bot["user_agent"], bot["email"], bot["held"], bot["fields"]) == (None, None, None, None, {})
    assert (str(real["ip"]), real["fields"]) == ("127.0.0.1", {"city": "London"})
    with pytest.raises(Conflict):
        await submissions.take_held(db, bot["id"])
    await submit(anonymous, form, _hp="x")
    await client.delete(f"/v1/subscribers/{(await person(client))['id']}")
    assert await db.fetchval("SELECT count(*) FROM submissions WHERE email IS NOT NULL") == 0


# ── Proof of work and attacks ───────────────────────────────────────────────────────────────────────────────────────


def solved(challenge):
    """Solve a challenge as a browser does."""
    found = altcha.Challenge.from_dict(challenge)
    solution = altcha.solve_challenge(found)
    assert solution is not None
    return altcha.Payload(found, solution).to_base64()


async def test_a_form_may_ask_for_proof_of_work(client, anonymous, db):
    """A solved challenge lets in once and at its own form; without one the submission is held, never refused."""
    form = await make_form(client, protection={"min_seconds": 0, "proof_of_work": "always"})
    other = await make_form(client, protection={"min_seconds": 0, "proof_of_work": "always"})
    answer = await anonymous.get(f"/f/{form['key']}/challenge")
    assert (answer.status_code, answer.headers["cache-control"], answer.headers["access-control-allow-origin"]) == (
        200,
        "no-store",
        "*",
    )
    payload = solved(answer.json())
    for target, more in (
        (other, {"altcha": payload}),
        (form, {}),
        (form, {"altcha": "AAAA"}),
        (form, {"altcha": payload}),
        (form, {"altcha": payload}),
    ):
        assert (await submit(anonymous, target, **more)).status_code == 202
    assert [found for _, found in await reasons(client, about="all")] == [
        ["wrong_proof"],
        ["no_proof"],
        ["wrong_proof"],
        [],
        ["used_proof"],
    ]
    assert len(await letters(db)) == 1
    easy = await make_form(client)
    assert (await anonymous.get(f"/f/{easy['key']}/challenge")).status_code == 204


async def test_a_proof_expires_and_cannot_be_made_easier(db):
    """What is signed is held to; another secret's challenge is none."""
    now = datetime.now(UTC)
    for challenge, found in (
        (proof.challenge(SECRETS, 1, now=now, cost=10), "right"),
        (proof.challenge(SECRETS, 1, now=now - timedelta(hours=1), cost=10), "wrong"),
        (proof.challenge(("another",), 1, now=now, cost=10), "wrong"),
    ):
        assert await proof.use(db, SECRETS, 1, solved(challenge)) == found
    easier = proof.challenge(SECRETS, 1, now=now, cost=10)
    easier["parameters"]["keyPrefix"] = ""
    assert await proof.use(db, SECRETS, 1, solved(easier)) == "wrong"
    assert await proof.use(db, ("newer", *SECRETS), 1, solved(proof.challenge(SECRETS, 1, now=now, cost=10))) == "right"


JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.dictionaries(st.sampled_from(["challenge", "solution", "parameters", "nonce", "cost"]), inner, max_size=4)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)


@given(st.text() | JUNK.map(lambda junk: base64.b64encode(msgspec.json.encode(junk)).decode()))
def test_junk_is_no_proof(text):
    """Whatever is posted, and never an error."""
    assert proof._payload(text) is None


SENT = """
INSERT INTO submissions (form_id, subscriber_id, outcome, verdict, at)
SELECT $1, NULL, $2, $3, now() - make_interval(mins => $4) FROM generate_series(1, $5)
"""


async def test_an_attacked_form_asks_for_proof_by_itself(client, anonymous, app, db):
    """Most of what came within ten minutes was caught: proof is wanted, at this form only, until it is over."""
    form, quiet = await make_form(client), await make_form(client)
    await db.execute(SENT, form["id"], "held", "bot", 1, 40)
    await db.execute(SENT, quiet["id"], "held", "bot", 1, 29)
    await attacks.watch(db)
    await attacks.watch(db)
    app.state.guard._due = 0
    assert (await anonymous.get(f"/f/{form['key']}/challenge")).status_code == 200
    assert (await anonymous.get(f"/f/{quiet['key']}/challenge")).status_code == 204
    await submit(anonymous, form)
    await submit(anonymous, quiet, email="b@example.org")
    assert (await held(client, form_id=form["id"]))[-1]["reasons"] == ["no_proof"]
    assert len(await letters(db, "b@example.org")) == 1
    shown = (await client.get("/v1/protection")).json()
    assert [(one["form_id"], one["reason"]) for one in shown["attacks"]] == [(form["id"], "caught")]
    assert "mailbase_forms_attacked 1.0" in (await client.get("/metrics")).text
    later = datetime.now(UTC) + timedelta(minutes=11)
    await attacks.watch(db, now=later)
    assert await attacks.going_on(db) == []
    assert [one.form_id for one in await attacks.lately(db)] == [form["id"]]


async def test_the_circuit_breaker_opens_when_nobody_confirms_and_closes_by_itself(client, anonymous, app, db):
    """Forms go on, asking for proof; one that asks for none holds everything. Young letters are not judged."""
    form = await make_form(client)
    bare = await make_form(client, protection={"min_seconds": 0, "proof_of_work": "off"})
    await db.execute(SENT, form["id"], "accepted", "pass", 2, 400)
    await attacks.watch(db)
    assert await attacks.going_on(db) == []
    await db.execute(SENT, form["id"], "accepted", "pass", 20, 200)
    await attacks.watch(db)
    app.state.guard._due = 0
    assert [one.form_id for one in await attacks.going_on(db)] == [None, form["id"]]
    await submit(anonymous, form)
    await submit(anonymous, bare, email="b@example.org")
    assert [found for _, found in await reasons(client)] == [["no_proof"], ["attack"]]
    payload = solved((await anonymous.get(f"/f/{form['key']}/challenge")).json())
    await submit(anonymous, form, email="c@example.org", altcha=payload)
    assert len(await letters(db, "c@example.org")) == 1
    said = [(one.level, one.check) for one in await forms.examine(db)]
    assert said == [("warning", "attack"), ("warning", "attack"), ("warning", "held")]
    breaker = (await client.get("/v1/protection")).json()["breaker"]
    assert (breaker["letters"], breaker["confirmed"]) == (200, 0)
    await attacks.watch(db, now=datetime.now(UTC) + timedelta(minutes=75))
    assert await attacks.going_on(db) == []


async def test_a_campaign_at_the_counter_is_no_attack(client, db):
    """Hundreds of letters of which one in ten is confirmed within the hour."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) SELECT 'p' || n || '@x.example', 'p' || n || '@x.example', 'x.example', 'active' FROM generate_series(1, 300) AS n"
    )
    await db.execute(
        "INSERT INTO submissions (form_id, subscriber_id, outcome, at) SELECT $1, id, 'accepted', now() - interval '20 minutes' FROM subscribers",
        form["id"],
    )
    await db.execute(
        "INSERT INTO confirmations (subscriber_id, expires_at, confirmed_at) SELECT id, now() + interval '1 day', now() FROM subscribers LIMIT 30"
    )
    await attacks.watch(db)
    assert await attacks.going_on(db) == []


class TestWithoutLimits:
    """``MAILBASE_FORM_LIMITS=off``."""

    @pytest.fixture
    def settings(self, settings):
        return msgspec.structs.replace(settings, form_limits=False)

    async def test_nothing_that_counts_holds_a_load_test_up(self, client, anonymous, app, db):
        """Neither rates nor replays nor attacks."""
        form = await make_form(client)
        await db.execute(SENT, form["id"], "held", "bot", 1, 40)
        stale = app.state.tokens.sign("form_time", form["id"], int(time.time()) - 60)
        for n in range(12):
            await submit(anonymous, form, email=f"p{n}@example.org", _t=stale)
        assert await db.fetchval("SELECT count(*) FROM messages") == 12


# ── Letters a day ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(0, 40_000), min_size=8, max_size=30))
@settings(max_examples=15)
async def test_no_mailbox_gets_more_than_three_letters_in_any_day(db, waits):
    """Whenever somebody asks, and however the address is spelled."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    spellings = [addresses.parse(text) for text in ("ada@gmail.com", "a.da@gmail.com", "Ada+x@googlemail.com")]
    sent = []
    transaction = db.transaction()
    await transaction.start()
    try:
        for n, wait in enumerate(waits):
            at += timedelta(seconds=wait)
            if await cooldowns.take(db, spellings[n % 3], KEY, now=at):
                sent.append(at)
    finally:
        await transaction.rollback()
    assert sent
    assert all(fourth - first >= timedelta(days=1) for first, fourth in zip(sent, sent[3:], strict=False))
    assert all(second - first >= timedelta(minutes=10) for first, second in itertools.pairwise(sent))


async def test_tagged_addresses_of_one_name_are_ten_letters_a_day(db):
    """Where nobody knows whether they end in one mailbox."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    taken = [await cooldowns.take(db, addresses.parse(f"ada+{n}@example.org"), KEY, now=at) for n in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert await cooldowns.take(db, addresses.parse("ada@example.org"), KEY, now=at)
    assert await cooldowns.take(db, addresses.parse("ada+99@example.org"), KEY, now=at + timedelta(days=1))


# ── Hints ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_typo_is_hinted_at(client, anonymous):
    """By JSON, as text across origins, or urlencoded; an address that looks right, or none at all, gets null."""
    form = await make_form(client)
    path = f"/f/{form['key']}/check"
    for content, kind in (
        (b'{"email": "ada@gmial.com"}', "application/json"),
        (b'{"email": "ada@gmial.com"}', "text/plain"),
        (b"email=ada%40gmial.com", "application/x-www-form-urlencoded"),
    ):
        answer = await anonymous.post(path, content=content, headers={"Content-Type": kind, **JSON})
        assert (answer.status_code, answer.json()) == (200, {"hint": "ada@gmail.com"}), kind
    for given_ in ({"email": "ada@example.org"}, {"email": "nobody"}, {"email": 7}, {}):
        assert (await anonymous.post(path, json=given_)).json() == {"hint": None}
    silent = await make_form(client, protection={"typo_hint": False})
    assert (await anonymous.post(f"/f/{silent['key']}/check", json={"email": "ada@gmial.com"})).json() == {"hint": None}
