"""The public side of a form: pages, programs, other origins, limits, and that nobody learns who is on the list."""

import asyncio
import gzip
import time
from ipaddress import ip_address

import msgspec
import pytest

from mailbase.optin import limits
from optin.optin_kit import ENTRY, JSON, last_link, letters, make_form, submit

SHOP = "https://shop.example"


async def test_a_form_without_double_opt_in_announces_no_letter(client, anonymous):
    """Neither before nor after the submission, on the page or in the script's texts, is a letter promised that nobody sends."""
    form = await make_form(client, double_opt_in=False)
    before = await anonymous.get(f"/f/{form['key']}")
    after = await anonymous.post(f"/f/{form['key']}", data=ENTRY)
    assert (before.status_code, after.status_code) == (200, 200)
    assert "We send you a letter" not in before.text
    assert "We have sent you a letter" not in after.text
    texts = (await anonymous.get(f"/f/{form['key']}/config.json")).json()["texts"]
    assert (texts["pending_title"], "letter" in texts["note"]) == ("Thank you", False)


@pytest.mark.parametrize(("origins", "ancestors"), [([], "*"), ([SHOP], f"'self' {SHOP}")])
async def test_a_form_in_a_frame_is_answered_there(client, anonymous, origins, ancestors):
    """The hosted form stands in frames of the origins it allows, and so does the page after it, or a visitor would see an error."""
    form = await make_form(client, allowed_origins=origins)
    before = await anonymous.get(f"/f/{form['key']}")
    wrong = await anonymous.post(f"/f/{form['key']}", data={"email": "nobody"})
    after = await anonymous.post(f"/f/{form['key']}", data=ENTRY)
    for page, status in ((before, 200), (wrong, 422), (after, 200)):
        assert page.status_code == status
        assert page.headers["content-security-policy"].endswith(f"; frame-ancestors {ancestors}")


async def test_the_hosted_page_works_without_a_script(client, anonymous):
    """A form with its fields, topics and consents, no script, nothing from elsewhere, in a strict policy."""
    form = await make_form(client)
    answer = await anonymous.get(f"/f/{form['key']}")
    assert answer.status_code == 200
    page = answer.text
    for part in (
        'name="email"',
        'name="city"',
        'name="interests" value="news"',
        'name="consent_newsletter"',
        'name="_t"',
        'name="_hp"',
        "Sales &amp; offers",
    ):
        assert part in page
    assert "<script" not in page
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-robots-tag"].startswith("noindex")
    sheet = await anonymous.get("/assets/pages.css")
    assert sheet.headers["content-type"].startswith("text/css")


async def test_what_the_owner_wrote_is_text(client, anonymous):
    """Markup in any of the owner's words is shown, not obeyed."""
    nasty = "<img src=x onerror=alert(1)>\"'"
    form = await make_form(
        client,
        name=nasty,
        fields=[
            {"name": "city", "label": nasty},
            {"name": "size", "label": nasty, "type": "select", "options": [nasty]},
        ],
        consents=[{"purpose": "newsletter", "text": nasty}],
        texts={"title": nasty, "intro": nasty, "button": nasty, "note": nasty},
    )
    assert "<img" not in (await anonymous.get(f"/f/{form['key']}")).text


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "json"])
async def test_every_encoding_is_read(client, anonymous, db, kind):
    """The same submission in three encodings makes the same pending subscriber."""
    form = await make_form(client)
    path = f"/f/{form['key']}"
    both = {**ENTRY, "interests": ["news", "sale"]}
    if kind == "urlencoded":
        answer = await anonymous.post(path, data=both, headers=JSON)
    elif kind == "multipart":
        parts = [
            ("email", (None, ENTRY["email"])),
            ("city", (None, "London")),
            ("consent_newsletter", (None, "on")),
            *(("interests", (None, slug)) for slug in both["interests"]),
        ]
        answer = await anonymous.post(path, files=parts, headers=JSON)
    else:
        answer = await anonymous.post(path, json={**both, "consent_newsletter": True})
    assert (answer.status_code, answer.json()) == (202, {"status": "pending"})
    row = await db.fetchrow("SELECT * FROM subscribers")
    assert (row["email"], row["attributes"], len(row["interests"])) == ("Ada@example.org", {"city": "London"}, 2)


async def test_a_browser_gets_a_page_or_is_sent_on(client, anonymous):
    """200 with a page, or 303 to the form's own."""
    form = await make_form(client)
    answer = await anonymous.post(f"/f/{form['key']}", data=ENTRY, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "mailbox" in answer.text
    await client.patch(
        f"/v1/forms/{form['id']}", json={"redirects": {"pending": f"{SHOP}/thanks", "confirmed": f"{SHOP}/welcome"}}
    )
    answer = await anonymous.post(
        f"/f/{form['key']}", data={**ENTRY, "email": "b@example.org"}, headers={"Accept": "text/html"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{SHOP}/thanks")
    page = await anonymous.get(f"/f/{form['key']}")
    assert SHOP in page.headers["content-security-policy"]


async def test_confirming_sends_on_to_the_forms_own_page(client, anonymous, db):
    """303 to ``redirects.confirmed``, both times; nothing in the request can change where."""
    form = await make_form(client, redirects={"confirmed": f"{SHOP}/welcome"})
    await submit(anonymous, form, redirect="https://evil.example", next="https://evil.example")
    path = await last_link(db)
    for _ in range(2):
        answer = await anonymous.post(f"{path}?redirect=https://evil.example", data={"next": "https://evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{SHOP}/welcome")


MISTAKES = [
    ({"email": ""}, "email"),
    ({"email": "nobody"}, "email"),
    ({"email": "a@b@c"}, "email"),
    ({"email": "a\0b@example.org"}, "email"),
    ({"interests": ["elsewhere"]}, "interests"),
    ({"consent_newsletter": ""}, "consent_newsletter"),
    ({"city": "x" * 1001}, "city"),
    ({"city": "a\0b"}, "city"),
    ({"born": "31.12.1999"}, "born"),
    ({"born": "1999-02-30"}, "born"),
    ({"age": "old"}, "age"),
    ({"phone": "call me"}, "phone"),
    ({"size": "XXL"}, "size"),
    ({"second": "nobody"}, "second"),
    ({"must": ""}, "must"),
    ({"rules": ""}, "rules"),
]


async def test_what_cannot_be_accepted_is_named(client, anonymous, db):
    """422 with the field, for programs and, beside the field and with the entries kept, for browsers."""
    form = await make_form(
        client,
        fields=[
            {"name": "city"},
            {"name": "born", "type": "date"},
            {"name": "age", "type": "number"},
            {"name": "phone", "type": "phone"},
            {"name": "size", "type": "select", "options": ["S", "M"]},
            {"name": "second", "type": "email"},
            {"name": "must", "required": True},
            {"name": "rules", "type": "checkbox", "required": True},
        ],
    )
    for entry, field in MISTAKES:
        data = {**ENTRY, "must": "yes", "rules": "on", **entry}
        answer = await anonymous.post(f"/f/{form['key']}", data=data, headers=JSON)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    answer = await anonymous.post(
        f"/f/{form['key']}", data={**ENTRY, "must": "", "email": '"><b>'}, headers={"Accept": "text/html"}
    )
    assert answer.status_code == 422
    for part in (
        'id="fault-must"',
        'id="fault-email"',
        "&quot;&gt;&lt;b&gt;",
        'value="London"',
        'value="news" checked',
    ):
        assert part in answer.text
    assert "<b>" not in answer.text
    assert await db.fetchval("SELECT count(*) FROM submissions") == 0


async def test_answers_become_typed_attributes(client, anonymous, db):
    """Numbers are numbers, ticks are booleans, what was left empty is not there, what was not declared is ignored."""
    fields = [
        {"name": "age", "type": "number"},
        {"name": "share", "type": "number"},
        {"name": "vip", "type": "checkbox"},
        {"name": "born", "type": "date"},
        {"name": "city"},
    ]
    form = await make_form(client, fields=fields)
    await submit(anonymous, form, age="42", share="1,5", vip="on", born="1999-12-31", city="", admin="yes")
    assert await db.fetchval("SELECT attributes FROM subscribers") == {
        "age": 42,
        "share": 1.5,
        "vip": True,
        "born": "1999-12-31",
    }


async def test_no_interest_is_accepted_and_all_are_given_where_there_is_no_choice(client, anonymous, db):
    """With a choice none is fine; without one the form's own are meant."""
    for choice, expected in ((True, 0), (False, 2)):
        form = await make_form(client, interest_choice=choice)
        await anonymous.post(
            f"/f/{form['key']}", data={"email": f"{choice}@example.org", "consent_newsletter": "on"}, headers=JSON
        )
        assert (
            len(
                await db.fetchval(
                    "SELECT interests FROM subscribers WHERE email_key = $1", f"{choice}@example.org".lower()
                )
            )
            == expected
        )


async def test_the_answer_does_not_tell_who_is_on_the_list(client, anonymous, db):
    """New, pending, active, left, bounced, complained, erased, suppressed or cooling down: the same status, headers and bytes."""
    form = await make_form(client)
    histories = ["new", "pending", "active", "unsubscribed", "bounced", "complained", "archived"]
    for status in histories[1:]:
        await db.execute(
            "INSERT INTO subscribers (email, email_key, domain, status) VALUES ($1, $1, 'example.org', $2)",
            f"{status}@example.org",
            status,
        )
    await db.execute(
        "INSERT INTO suppressions (kind, value, reason) VALUES ('email', 'complained@example.org', 'complaint'), ('email', 'manual@example.org', 'manual')"
    )
    for accept in ("application/json", "text/html"):
        seen = set()
        for status in [*histories, "manual", "pending"]:
            answer = await anonymous.post(
                f"/f/{form['key']}", data={**ENTRY, "email": f"{status}@example.org"}, headers={"Accept": accept}
            )
            headers = tuple(
                (name, value) for name, value in answer.headers.items() if name not in {"x-request-id", "date"}
            )
            seen.add((answer.status_code, headers, answer.content))
        assert len(seen) == 1


async def test_a_honeypot_and_haste_are_held_and_nothing_more(client, anonymous, db):
    """Bots get the ordinary answer, no letter and no row among the subscribers; what they sent is held with the reason."""
    form = await make_form(client, protection={"min_seconds": 3})
    config = (await anonymous.get(f"/f/{form['key']}/config.json")).json()
    assert (await submit(anonymous, form, _hp="https://spam.example")).json() == {"status": "pending"}
    assert (await submit(anonymous, form, _t=config["_t"])).json() == {"status": "pending"}
    assert await letters(db) == []
    noted = await db.fetch("SELECT outcome, verdict, reasons FROM submissions ORDER BY id")
    assert [tuple(row) for row in noted] == [("held", "bot", ["honeypot"]), ("held", "bot", ["too_fast"])]
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
    assert (await client.get(f"/v1/forms/{form['id']}/stats")).json()["submits"] == 0


async def test_a_mistake_mended_at_once_is_no_haste(client, anonymous, app, db):
    """The page with the mistakes keeps the time it was first shown; a time that is not its form's is not kept."""
    form = await make_form(client, protection={"min_seconds": 3})
    shown = {n: app.state.tokens.sign("form_time", form["id"] + n, int(time.time()) - 60) for n in (0, 1)}
    page = [await anonymous.post(f"/f/{form['key']}", data={"email": "ada@", "_t": shown[n]}) for n in (0, 1)]
    assert [shown[n] in page[n].text for n in (0, 1)] == [True, False]
    await submit(anonymous, form, _t=shown[0])
    assert len(await letters(db)) == 1


@pytest.mark.parametrize("given", [None, "old", "yesterday's"])
async def test_no_time_and_an_old_one_hold_nobody_up(client, anonymous, app, db, given):
    """A page may be left open as long as its reader likes."""
    form = await make_form(client, protection={"min_seconds": 3})
    old = app.state.tokens.sign("form_time", form["id"], int(time.time()) - 60)
    older = app.state.tokens.sign("form_time", form["id"], int(time.time()) - 100_000)
    times = {None: {}, "old": {"_t": old}, "yesterday's": {"_t": older}}[given]
    await submit(anonymous, form, **times)
    assert len(await letters(db)) == 1


async def test_a_wrong_key_is_told_to_whatever_page_names_it(anonymous):
    """The script can read that there is no such form, and say so, instead of a browser's word about origins."""
    answer = await anonymous.get("/f/nobodys/config.json", headers={"Origin": SHOP, **JSON})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_other_origins_may_use_a_form_that_allows_them(client, anonymous):
    """The allowed origin reads every answer, refusals included; another is refused and told nothing."""
    form = await make_form(client, allowed_origins=[f"{SHOP}/"])
    path = f"/f/{form['key']}"
    allowed, foreign = {"Origin": SHOP, **JSON}, {"Origin": "https://evil.example", **JSON}
    for answer in (
        await anonymous.get(f"{path}/config.json", headers=allowed),
        await anonymous.post(path, data=ENTRY, headers=allowed),
        await anonymous.post(path, data={}, headers=allowed),
        await anonymous.post(path, content=b"{", headers={**allowed, "Content-Type": "application/json"}),
        await anonymous.post(f"{path}/events", content=b'{"type":"view"}', headers=allowed),
        await anonymous.options(path, headers={**allowed, "Access-Control-Request-Method": "POST"}),
    ):
        assert answer.headers["access-control-allow-origin"] == SHOP, answer.request
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    for answer in (
        await anonymous.get(f"{path}/config.json", headers=foreign),
        await anonymous.post(path, data=ENTRY, headers=foreign),
        await anonymous.options(path, headers={**foreign, "Access-Control-Request-Method": "POST"}),
    ):
        assert "access-control-allow-origin" not in answer.headers
    assert (await anonymous.post(path, data=ENTRY, headers=foreign)).status_code == 403
    assert (await anonymous.post(path, data=ENTRY, headers={"Origin": "http://mailbase.test"})).status_code == 200


async def test_a_preflight_is_answered(client, anonymous):
    """A JSON body from another origin is possible."""
    form = await make_form(client)
    asked = {"Origin": SHOP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = await anonymous.options(f"/f/{form['key']}", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()


async def test_a_visitor_who_hurries_is_told_when_to_come_back(client, anonymous):
    """429 with ``Retry-After``, for a page and for a program, and still readable across origins."""
    form = await make_form(client)
    answers = [await submit(anonymous, form, email=f"p{n}@example.org") for n in range(31)]
    assert {answer.status_code for answer in answers[:30]} == {202}
    assert answers[-1].status_code == 429
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    assert answers[-1].headers["access-control-allow-origin"] == "*"
    page = await anonymous.post(f"/f/{form['key']}", data=ENTRY, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (429, "text/html; charset=utf-8")


class TestWithoutLimits:
    """``MAILBASE_FORM_LIMITS=off``."""

    @pytest.fixture
    def settings(self, settings):
        return msgspec.structs.replace(settings, form_limits=False)

    async def test_no_visitor_is_held_back(self, client, anonymous, db):
        """The limits per network and form are lifted, the cooldown of an address is not."""
        form = await make_form(client)
        assert {(await submit(anonymous, form)).status_code for _ in range(40)} == {202}
        assert len(await letters(db)) == 1


class TestWithoutRedis:
    """Redis is gone."""

    @pytest.fixture
    def settings(self, settings):
        return msgspec.structs.replace(settings, redis_url="unix:///nowhere/redis.sock")

    async def test_a_form_still_answers(self, client, anonymous, db):
        """A count is worth less than a subscriber; yet nobody may send as much as they like: the process counts by itself."""
        form = await make_form(client)
        # As many as two windows take, and one more: a minute may end in between.
        answers = [(await submit(anonymous, form)).status_code for _ in range(61)]
        assert answers[:30] == [202] * 30
        assert 429 in answers
        assert len(await letters(db)) == 1


async def test_views_starts_and_submissions_are_counted(client, anonymous, db):
    """By day and page; a page is kept without its query."""
    form = await make_form(client)
    path = f"/f/{form['key']}"
    for page in (f"{SHOP}/a?utm=1", f"{SHOP}/a", f"{SHOP}/b"):
        assert (
            await anonymous.post(f"{path}/events", json={"type": "view", "page": page, "mode": "inline"})
        ).status_code == 204
    await anonymous.post(f"{path}/events", json={"type": "start", "page": f"{SHOP}/a"})
    await submit(anonymous, form, _page=f"{SHOP}/a?x=y")
    await submit(anonymous, form, _page=f"{SHOP}/a")
    await anonymous.post(await last_link(db))
    stats = (await client.get(f"/v1/forms/{form['id']}/stats")).json()
    assert (stats["views"], stats["starts"], stats["submits"], stats["confirmed"]) == (3, 1, 1, 1)
    assert len(stats["by_day"]) == 1
    assert [(page["page"], page["views"], page["submits"], page["confirmed"]) for page in stats["by_page"]] == [
        (f"{SHOP}/a", 2, 1, 1),
        (f"{SHOP}/b", 1, 0, 0),
    ]


async def test_an_event_that_is_none_is_refused(client, anonymous):
    """400 or 422, never counted."""
    form = await make_form(client)
    for body in (b"", b"[]", b"{", b'{"type": "drop"}', b'{"type": 1}', b"\xff"):
        assert (await anonymous.post(f"/f/{form['key']}/events", content=body)).status_code in {400, 422}
    assert (await client.get(f"/v1/forms/{form['id']}/stats")).json()["views"] == 0


async def test_invented_pages_do_not_fill_the_table(client, anonymous, db):
    """A form remembers two hundred pages a day."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO form_counts (form_id, day, value, what, n) SELECT $1, current_date, 'https://x.example/' || n, 'view', 1 FROM generate_series(1, 200) AS n",
        form["id"],
    )
    for n in range(3):
        await anonymous.post(f"/f/{form['key']}/events", json={"type": "view", "page": f"https://y.example/{n}"})
    assert await db.fetchval("SELECT sum(n) FROM form_counts WHERE dimension = 'page' AND value = '*'") == 3
    stats = (await client.get(f"/v1/forms/{form['id']}/stats")).json()
    assert stats["by_page"][0] == {"page": "other", "views": 3, "starts": 0, "submits": 0, "confirmed": 0}


async def test_the_qr_code_is_a_picture(client, anonymous):
    """An SVG that nothing can be smuggled into."""
    form = await make_form(client)
    answer = await anonymous.get(f"/f/{form['key']}/qr.svg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.text.startswith("<svg")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_head_works_on_every_page(client, anonymous):
    """Status and headers of GET, no body, no view counted."""
    form = await make_form(client)
    for path in (
        f"/f/{form['key']}",
        f"/f/{form['key']}/config.json",
        f"/f/{form['key']}/qr.svg",
        "/embed/v1.js",
        "/embed/demo",
        "/assets/pages.css",
    ):
        got, asked = await anonymous.get(path), await anonymous.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-type"] == got.headers["content-type"]
    assert (await client.get(f"/v1/forms/{form['id']}/stats")).json()["views"] == 1


async def test_a_page_speaks_the_browsers_language(client, anonymous):
    """English or Russian by ``Accept-Language``."""
    form = await make_form(client)
    for language, word in (
        ("ru", "Подписаться"),
        ("de, en;q=0.5", "Subscribe"),
        ("en;q=0.2, ru;q=0.9", "Подписаться"),
        ("*;q=x,;;", "Subscribe"),
        ("", "Subscribe"),
    ):
        assert word in (await anonymous.get(f"/f/{form['key']}", headers={"Accept-Language": language})).text


async def test_a_forms_own_language_comes_first(client, anonymous):
    """Where the owner named one."""
    form = await make_form(client, locale="ru")
    assert "Подписаться" in (await anonymous.get(f"/f/{form['key']}", headers={"Accept-Language": "en"})).text


UNREADABLE = [
    ("application/json", b"{", 400),
    ("application/json", b"[]", 400),
    ("application/json", b'{"email": {"a": 1}}', 422),
    ("application/json", b'{"email": 7, "interests": [{}], "city": []}', 422),
    ("application/x-www-form-urlencoded", b"\xff=1", 400),
    ("application/x-www-form-urlencoded", b"&".join(b"a=1" for _ in range(600)), 400),
    ("multipart/form-data; boundary=x", b"nonsense", 400),
    ("multipart/form-data", b"nonsense", 400),
    ("text/xml", b"<a/>", 415),
    ("application/json", b'"' + b"x" * 200_000, 413),
]


async def test_an_unreadable_body_is_refused(client, anonymous):
    """With the status that says why; never a 5xx."""
    form = await make_form(client)
    for kind, body, status in UNREADABLE:
        answer = await anonymous.post(f"/f/{form['key']}", content=body, headers={"Content-Type": kind, **JSON})
        assert answer.status_code == status, (kind, body[:50], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_crowd_at_one_form_is_served(client, anonymous, db):
    """Many submissions at once make as many people and letters."""
    form = await make_form(client)
    answers = await asyncio.gather(*(submit(anonymous, form, email=f"p{n}@example.org") for n in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert await db.fetchval("SELECT count(*) FROM messages") == 20
    assert (await client.get(f"/v1/forms/{form['id']}/stats")).json()["submits"] == 20


def test_an_ipv6_visitor_is_their_network():
    """Who owns a /64 has one bucket; an IPv4 address is its own."""
    assert limits.whose(ip_address("2001:db8:1:2::1")) == limits.whose(ip_address("2001:db8:1:2:ffff::9"))
    assert limits.whose(ip_address("2001:db8:1:3::1")) != limits.whose(ip_address("2001:db8:1:2::1"))
    assert limits.whose(ip_address("192.0.2.1")) != limits.whose(ip_address("192.0.2.2"))


async def test_the_script_is_small_and_cached(anonymous):
    """At most 5 kB gzipped, to be kept, revalidated by its tag, usable on any page."""
    answer = await anonymous.get("/embed/v1.js")
    assert len(gzip.compress(answer.content, 9)) <= 5_000
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "max-age" in answer.headers["cache-control"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert (await anonymous.get("/embed/v1.js", headers={"If-None-Match": answer.headers["etag"]})).status_code == 304


@pytest.mark.parametrize("path", ["/embed/v1.js", "/embed/v1-popup.js", "/assets/pages.css"])
async def test_what_pages_load_travels_compressed(anonymous, path):
    """For browsers that take gzip, at less than half its size; others get the same as it is, and caches keep the two apart."""
    plain = await anonymous.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
    small = await anonymous.get(path, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(plain.content) / 2
    assert plain.content == small.content  # unpacked by the client
    assert {plain.headers["vary"], small.headers["vary"]} == {"Accept-Encoding"}
    assert (await anonymous.head(path)).status_code == 200
