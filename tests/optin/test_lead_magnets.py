"""Lead magnets: uploaded by the owner, promised by a form, fetched by those who confirmed."""

import asyncio
import re
import time

from mailbase.optin.magnet_files import LARGEST, SLICE
from optin.optin_kit import JSON, last_link, make_form, person, submit

GUIDE = b"%PDF-1.7\n" + bytes(range(256)) * 9000
URL = "https://shop.example/guide?for=readers"


async def give(client, form, content=GUIDE, name="guide.pdf"):
    """Upload a form's file."""
    return await client.put(f"/v1/forms/{form['id']}/lead-magnet", files={"file": (name, content, "text/html")})


async def make_gift(client, **changes):
    """Return a form that gives the guide away."""
    form = await make_form(client, **{"lead_magnet": {"title": "Bread at home"}, **changes})
    if not (form["lead_magnet"] or {}).get("url"):
        answer = await give(client, form)
        assert answer.status_code == 200, answer.text
    return form


async def gifts(db, email="ada@example.org"):
    """Return the letters with a link, oldest first."""
    return await db.fetch("SELECT * FROM messages WHERE kind = 'transactional' AND email_key = $1 ORDER BY id", email)


def path_in(letter):
    """Return the path of the link in a letter."""
    found = re.search(r"http://mailbase\.test(/d/[\w-]+)", letter["text"])
    assert found
    assert found[0] in letter["html"]
    return found[1]


async def fetched_by(anonymous, db, form, email="ada@example.org"):
    """Subscribe and confirm somebody, and return the path of their link."""
    await submit(anonymous, form, email=email)
    await anonymous.post(await last_link(db, email), headers=JSON)
    return path_in((await gifts(db, email))[-1])


async def numbers(client, form):
    """Return (people, downloads)."""
    found = (await client.get(f"/v1/forms/{form['id']}/lead-magnet")).json()
    return found["people"], found["downloads"]


async def test_a_form_shows_its_file(client):
    """Its name, what it really is, its size and how often it was fetched; the same in the list and by itself."""
    form = await make_gift(client)
    shown = (await client.get(f"/v1/forms/{form['id']}")).json()["lead_magnet"]
    file = {"filename": "guide.pdf", "content_type": "application/pdf", "size": len(GUIDE), "downloads": 0}
    assert shown == {"title": "Bread at home", "file": file}
    assert (await client.get("/v1/forms")).json()["data"][0]["lead_magnet"] == shown
    alone = (await client.get(f"/v1/forms/{form['id']}/lead-magnet")).json()
    assert alone == {"title": "Bread at home", "url": None, "file": file, "people": 0, "downloads": 0}


async def test_the_letter_goes_with_the_confirmation(client, anonymous, db):
    """Not before it, one for each confirmation, from the form's sender, in the person's language, with the file behind its link."""
    form = await make_gift(client, locale="ru")
    await submit(anonymous, form)
    assert await gifts(db) == []
    link = await last_link(db)
    await anonymous.get(link)
    assert await gifts(db) == []
    for _ in range(2):
        assert (await anonymous.post(link, headers=JSON)).status_code == 200
    (letter,) = await gifts(db)
    assert (letter["from_email"], letter["subject"]) == ("hello@news.example.com", "Bread at home: вот, как обещали")
    assert "PDF, 2,3 МБ" in letter["text"]
    answer = await anonymous.get(path_in(letter))
    assert (answer.status_code, answer.content) == (200, GUIDE)
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-length"] == str(len(GUIDE))
    assert answer.headers["content-disposition"].startswith('attachment; filename="guide.pdf"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    events = (await client.get(f"/v1/subscribers/{(await person(client))['id']}/events")).json()["data"]
    assert [event["kind"] for event in events][:2] == ["lead_magnet_fetched", "lead_magnet_sent"]
    await fetched_by(anonymous, db, form)
    assert len(await gifts(db)) == 2


async def test_without_double_opt_in_only_the_mailbox_gets_it(client, anonymous, db):
    """The letter goes at once, the page after the form holds no link, and typing the address again sends no more."""
    form = await make_gift(client, double_opt_in=False)
    page = await anonymous.post(f"/f/{form['key']}", data={"email": "ada@example.org", "consent_newsletter": "on"})
    assert page.status_code == 200
    assert "/d/" not in page.text
    for _ in range(3):
        await submit(anonymous, form)
    assert len(await gifts(db)) == 1
    await db.execute("UPDATE magnet_letters SET at = at - interval '11 minutes'")
    for _ in range(5):
        await submit(anonymous, form)
        await db.execute("UPDATE magnet_letters SET at = at - interval '11 minutes'")
    assert len(await gifts(db)) == 3
    assert (await anonymous.get(path_in((await gifts(db))[0]))).content == GUIDE


async def test_a_page_of_the_owners_is_redirected_to(client, anonymous, db):
    """To the stored address and nowhere else, whatever is asked; looking ahead counts nothing."""
    form = await make_gift(client, lead_magnet={"title": "Bread at home", "url": URL})
    assert form["lead_magnet"] == {"title": "Bread at home", "url": URL}
    path = await fetched_by(anonymous, db, form)
    assert (await anonymous.head(path)).status_code == 302
    machine = {"User-Agent": "Barracuda Sentinel"}
    assert (await anonymous.get(path, headers=machine)).headers["location"] == URL
    assert await numbers(client, form) == (0, 0)
    answer = await anonymous.get(f"{path}?url=https://evil.example/")
    assert (answer.status_code, answer.headers["location"]) == (302, URL)
    assert await numbers(client, form) == (1, 1)
    assert (await give(client, form)).json()["code"] == "url_set"


async def test_people_and_downloads_are_counted(client, anonymous, db):
    """A person once, a download when it came to its end, at most one a person in half an hour."""
    form = await make_gift(client)
    ada = await fetched_by(anonymous, db, form)
    bob = await fetched_by(anonymous, db, form, "bob@example.org")
    assert (await anonymous.head(ada)).headers["content-length"] == str(len(GUIDE))
    await anonymous.get(ada, headers={"Range": "bytes=0-99"})
    assert await numbers(client, form) == (0, 0)
    for _ in range(2):
        await anonymous.get(ada, headers={"Range": f"bytes={len(GUIDE) - 10}-"})
        await anonymous.get(ada)
    assert await numbers(client, form) == (1, 1)
    await anonymous.get(bob)
    assert await numbers(client, form) == (2, 2)
    await db.execute("UPDATE magnet_downloads SET last_at = last_at - interval '31 minutes'")
    await anonymous.get(ada)
    assert await numbers(client, form) == (2, 3)
    found = await db.fetchrow("SELECT count(*) AS people, sum(n)::bigint AS downloads FROM magnet_downloads")
    assert tuple(found) == await numbers(client, form)
    assert (await client.get(f"/v1/forms/{form['id']}")).json()["lead_magnet"]["file"]["downloads"] == 3
    stats = (await client.get(f"/v1/forms/{form['id']}/stats")).json()
    assert stats["lead_magnet"] == {"people": 2, "downloads": 3}


RANGES = [
    ("bytes=0-0", 0, 0),
    ("bytes=5-", 5, len(GUIDE) - 1),
    ("bytes=-7", len(GUIDE) - 7, len(GUIDE) - 1),
    (f"bytes={SLICE - 3}-{SLICE + 3}", SLICE - 3, SLICE + 3),
    (f"bytes=10-{10**15}", 10, len(GUIDE) - 1),
    (f"bytes=-{10**15}", 0, len(GUIDE) - 1),
]


async def test_a_part_of_the_file_can_be_asked_for(client, anonymous, db):
    """RFC 9110, section 14: a part, its place, 416 for none; what is not understood or about another file gets all of it."""
    form = await make_gift(client)
    path = await fetched_by(anonymous, db, form)
    tag = (await anonymous.head(path)).headers["etag"]
    for asked, first, last in RANGES:
        answer = await anonymous.get(path, headers={"Range": asked, "If-Range": tag})
        assert (answer.status_code, answer.content) == (206, GUIDE[first : last + 1]), asked
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(GUIDE)}"
    for asked in ("bytes=1-2,4-5", "lines=1-2", "bytes=9-3", "bytes=-", "bytes=x-1"):
        answer = await anonymous.get(path, headers={"Range": asked})
        assert (answer.status_code, len(answer.content)) == (200, len(GUIDE)), asked
    stale = await anonymous.get(path, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert stale.status_code == 200
    for asked in (f"bytes={len(GUIDE)}-", "bytes=-0"):
        answer = await anonymous.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(GUIDE)}")


async def test_a_link_has_its_time(client, anonymous, app, db):
    """Afterwards a page says so and, on a press, mails a new one: to the person, and not again at once."""
    form = await make_gift(client)
    await fetched_by(anonymous, db, form)
    await db.execute("UPDATE magnet_letters SET at = at - interval '8 days'")
    who = (await person(client))["id"]
    path = f"/d/{app.state.tokens.sign('download', form['id'], who, int(time.time()) - 1)}"
    page = await anonymous.get(path, headers={"Accept": "text/html"})
    assert page.status_code == 410
    assert "Bread at home" in page.text
    assert "ada" not in page.text.lower()
    assert (await anonymous.get(path, headers=JSON)).json()["code"] == "link_expired"
    assert (await anonymous.head(path)).status_code == 410
    assert len(await gifts(db)) == 1
    for _ in range(2):
        assert (await anonymous.post(path)).status_code == 200
        assert (await anonymous.post(path, headers=JSON)).json() == {"status": "sent"}
    _, again = await gifts(db)
    assert (await anonymous.get(path_in(again))).content == GUIDE


async def test_a_link_opens_nothing_else(client, anonymous, app, db):
    """No other form's file, none without a signature or for another purpose, none of somebody who was erased."""
    form = await make_gift(client)
    path = await fetched_by(anonymous, db, form)
    who = (await person(client))["id"]
    later = int(time.time()) + 999
    for token in ("x", path[3:-2], app.state.tokens.sign("view", form["id"], who, later)):
        assert (await anonymous.get(f"/d/{token}")).status_code == 404
    await client.delete(f"/v1/subscribers/{who}")
    assert (await anonymous.get(path)).status_code == 404
    assert (await anonymous.post(path)).status_code == 404
    assert await db.fetchval("SELECT count(*) FROM magnet_letters") == 0


async def test_a_file_that_was_taken_away_is_gone(client, anonymous, db):
    """Its links say so, the form shows none, and a new file stands behind the old links."""
    form = await make_gift(client)
    path = await fetched_by(anonymous, db, form)
    where = f"/v1/forms/{form['id']}/lead-magnet"
    assert (await client.delete(where)).status_code == 204
    assert (await client.delete(where)).status_code == 404
    assert (await anonymous.get(path)).status_code == 404
    assert (await client.get(f"/v1/forms/{form['id']}")).json()["lead_magnet"] == {"title": "Bread at home"}
    await give(client, form, b"GIF89a\x01", "Хлеб.gif")
    answer = await anonymous.get(path)
    assert (answer.content, answer.headers["content-type"]) == (b"GIF89a\x01", "image/gif")
    assert "filename*=UTF-8''%D0%A5%D0%BB%D0%B5%D0%B1.gif" in answer.headers["content-disposition"]


async def test_one_content_is_stored_once(client, db):
    """Two forms share its rows; they go with the last of them."""
    count = "SELECT (SELECT count(*) FROM magnet_contents), (SELECT count(*) FROM magnet_slices)"
    first, second = await make_gift(client), await make_gift(client)
    assert tuple(await db.fetchrow(count)) == (1, len(GUIDE) // SLICE + 1)
    await give(client, first, b"GIF89a\x01", "a.gif")
    assert (await db.fetchrow(count))[0] == 2
    await client.delete(f"/v1/forms/{first['id']}/lead-magnet")
    assert (await db.fetchrow(count))[0] == 1
    await client.delete(f"/v1/forms/{second['id']}")
    assert tuple(await db.fetchrow(count)) == (0, 0)


REFUSED = [
    (b"<html><script>alert(1)</script>", "guide.pdf", 422),
    (b"MZ\x90", "setup.exe", 422),
    (b"", "empty.pdf", 400),
    (b"%PDF-1.7" + b"\0" * LARGEST, "long.pdf", 413),
]


async def test_what_cannot_be_given_away_is_refused(client, db):
    """Programs, pages, nothing, too much, and nothing of it stays; a form without a promise gets one with its first file's name."""
    form = await make_form(client)
    assert form["lead_magnet"] is None
    assert (await client.get(f"/v1/forms/{form['id']}/lead-magnet")).status_code == 404
    for content, name, status in REFUSED:
        assert (await give(client, form, content, name)).status_code == status
    where = f"/v1/forms/{form['id']}/lead-magnet"
    assert (await client.put(where, json={})).status_code == 415
    assert (await client.put(where, files={"other": ("a", b"a")})).status_code == 400
    more = await client.put(where, files={"file": ("a.txt", b"a")}, data={"title": "x"})
    assert more.json()["errors"][0]["code"] == "unknown_field"
    assert (await client.put("/v1/forms/99/lead-magnet", files={"file": ("a.txt", b"a")})).status_code == 404
    assert await db.fetchval("SELECT count(*) FROM magnet_slices") == 0
    assert (await give(client, form, name="Bread at home.pdf")).json()["title"] == "Bread at home"
    exactly = b"%PDF-1.7" + b"\0" * (LARGEST - 8)
    assert (await give(client, form, exactly)).json()["file"]["size"] == LARGEST


def asked(path):
    """Return the ASGI scope of a GET."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("mailbase.test", 80),
    }


async def test_a_large_file_leaves_in_pieces(client, anonymous, app, db):
    """No more than a quarter of a megabyte is held at a time, and no connection between two pieces; who breaks off is not counted."""
    form = await make_gift(client)
    path = await fetched_by(anonymous, db, form)
    pieces, held = [], []
    pool = app.state.pool

    done = asyncio.Event()

    async def receive():
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            pieces.append(message["body"])
            held.append(pool.get_size() - pool.get_idle_size())
            if not message["more_body"]:
                done.set()

    await app(asked(path), receive, send)
    assert b"".join(pieces) == GUIDE
    assert max(map(len, pieces)) <= 256 * 1024
    assert len(pieces) > len(GUIDE) // (256 * 1024)
    assert min(held) == 0
    sent = 0

    async def leave():
        return {"type": "http.disconnect"}

    async def note(message):
        nonlocal sent
        sent += len(message.get("body", b""))

    before = await numbers(client, form)
    await db.execute("UPDATE magnet_downloads SET last_at = last_at - interval '31 minutes'")
    await app(asked(path), leave, note)
    assert sent < len(GUIDE)
    assert await numbers(client, form) == before
