"""Proof of consent: wordings and their versions, the export, the sheet to print."""

import base64
import csv
import hashlib
import io
import re

from optin.optin_kit import FORM, JSON, last_link, make_form, person, submit

OLD = FORM["consents"][0]
NEW = {**OLD, "text": "Send me letters about bread, at most one a week."}


def version(consent):
    """Return the version as the contract defines it."""
    return hashlib.sha256(f"{consent['text']}\0{consent['policy_url']}".encode()).hexdigest()


async def config(visitor, form):
    """Return what a page shows."""
    return (await visitor.get(f"/f/{form['key']}/config.json")).json()


async def ledger(client):
    """Return a person's consents, the oldest first."""
    found = await person(client)
    return (await client.get(f"/v1/subscribers/{found['id']}/consents")).json()["data"][::-1]


async def test_a_page_is_told_the_version_it_shows(client, anonymous):
    """The first twelve digits, in config.json and on the hosted page; boxes are never ticked beforehand."""
    form = await make_form(client)
    shown = (await config(anonymous, form))["consents"]
    assert [one["version"] for one in shown] == [version(OLD)[:12]]
    page = (await anonymous.get(f"/f/{form['key']}")).text
    assert f'name="_consent_versions" value="newsletter:{version(OLD)[:12]}"' in page
    assert not re.search(r'name="consent_newsletter"[^>]*checked', page)


async def test_what_was_shown_is_what_is_stored(client, anonymous, db):
    """Words changed between showing and sending: the ledger has those the visitor read; who says nothing agreed to the present ones."""
    form = await make_form(client)
    seen = (await config(anonymous, form))["consents"][0]["version"]
    await client.patch(f"/v1/forms/{form['id']}", json={"consents": [NEW]})
    for name, said in (
        ("text", {"_consent_versions": f"newsletter:{seen}"}),
        ("box", {"consent_newsletter": seen}),
        ("silent", {}),
        ("invented", {"_consent_versions": "newsletter:abcdefabcdef"}),
        ("other", {"_consent_versions": f"partners:{seen}"}),
    ):
        email = f"{name}@example.org"
        assert (await submit(anonymous, form, email=email, **said)).status_code == 202
        await anonymous.post(await last_link(db, email))
        texts = await db.fetch(
            "SELECT text FROM consents JOIN subscribers ON subscribers.id = subscriber_id WHERE email_key = $1", email
        )
        expected = OLD["text"] if name in {"text", "box"} else NEW["text"]
        assert {row["text"] for row in texts} == {expected}, name


async def test_json_may_name_versions_as_an_object(client, anonymous, db):
    """`_consent_versions: {purpose: version}`."""
    form = await make_form(client)
    await client.patch(f"/v1/forms/{form['id']}", json={"consents": [NEW]})
    body = {"email": "ada@example.org", "consent_newsletter": True, "_consent_versions": {"newsletter": version(OLD)}}
    assert (await anonymous.post(f"/f/{form['key']}", json=body)).status_code == 202
    await anonymous.post(await last_link(db))
    assert {line["version"] for line in await ledger(client)} == {version(OLD)}


async def test_a_changed_text_makes_a_version_and_old_proofs_keep_theirs(client, anonymous, db):
    """The list names every wording with its time; the ledger of who agreed before is untouched."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    await client.patch(f"/v1/forms/{form['id']}", json={"consents": [NEW]})
    await client.patch(f"/v1/forms/{form['id']}", json={"name": "Renamed"})
    versions = (await client.get(f"/v1/forms/{form['id']}/consents")).json()["data"]
    assert [(one["version"], one["until"] is None, one["given"]) for one in versions] == [
        (version(NEW), True, 0),
        (version(OLD), False, 1),
    ]
    assert {line["text"] for line in await ledger(client)} == {OLD["text"]}
    await client.patch(f"/v1/forms/{form['id']}", json={"consents": [OLD]})
    versions = (await client.get(f"/v1/forms/{form['id']}/consents")).json()["data"]
    assert [(one["version"], one["until"] is None) for one in versions] == [(version(OLD), True), (version(NEW), False)]
    await client.patch(f"/v1/forms/{form['id']}", json={"consents": [{**OLD, "policy_url": "https://shop.example/p2"}]})
    assert len((await client.get(f"/v1/forms/{form['id']}/consents")).json()["data"]) == 3


async def test_one_box_a_purpose(client, anonymous, db):
    """Each purpose is asked, ticked, stored and proven by itself; an optional one left alone is not there."""
    partners = {"purpose": "partners", "text": "Partners may write to me, too."}
    form = await make_form(client, consents=[OLD, partners])
    page = (await anonymous.get(f"/f/{form['key']}")).text
    assert page.count('type="checkbox" name="consent_') == 2
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    assert {line["purpose"] for line in await ledger(client)} == {"newsletter"}


async def test_the_export_proves_every_consent(client, anonymous, db):
    """Who, for what, in which words and version, when, from where, and the confirming act; no cell is a formula."""
    form = await make_form(client)
    await anonymous.post(
        f"/f/{form['key']}",
        data={
            "email": "ada@example.org",
            "consent_newsletter": "on",
            "_page": "https://shop.example/",
            "_source": "=cmd()",
        },
        headers={**JSON, "User-Agent": "Firefox"},
    )
    await anonymous.post(await last_link(db), headers={"User-Agent": "Mail"})
    await submit(anonymous, form, email="open@example.org")
    found = await person(client)
    await client.post(f"/v1/subscribers/{found['id']}/unsubscribe")
    answer = await client.get(f"/v1/forms/{form['id']}/consents.csv")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 1
    row = rows[0]
    assert (row["email"], row["purpose"], row["text"]) == ("ada@example.org", "newsletter", OLD["text"])
    assert (row["version"], row["policy_url"], row["page"]) == (
        version(OLD),
        OLD["policy_url"],
        "https://shop.example/",
    )
    assert (row["given_user_agent"], row["confirmed_user_agent"], row["source"]) == ("Firefox", "Mail", "'=cmd()")
    assert row["given_ip"] == row["confirmed_ip"] == "127.0.0.1"
    letter = await db.fetchval("SELECT message_id FROM confirmations WHERE subscriber_id = $1", found["id"])
    assert row["letter_id"] == str(letter)
    for name in ("given_at", "letter_at", "confirmed_at", "withdrawn_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[name]), name


async def test_the_export_goes_on_past_a_batch(client, db):
    """Thousands of lines, each once, in order."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) SELECT 'p' || n || '@example.org', 'p' || n || '@example.org', 'example.org', 'active' FROM generate_series(1, 4100) AS n"
    )
    await db.execute(
        "INSERT INTO consents (subscriber_id, purpose, text, text_hash, form_id) SELECT id, 'newsletter', 'Yes', '\\x00', $1 FROM subscribers",
        form["id"],
    )
    answer = await client.get(f"/v1/forms/{form['id']}/consents.csv")
    numbers = [int(row["id"]) for row in csv.DictReader(io.StringIO(answer.text))]
    assert len(numbers) == 4100
    assert numbers == sorted(set(numbers))


async def test_the_sheet_tells_how_it_came_about(client, anonymous, db):
    """Words, version, page, letter, confirmation and withdrawal on one page without any script, whose own style alone is allowed."""
    form = await make_form(client, consents=[{**OLD, "text": "<b>Yes</b> & gladly"}])
    await submit(anonymous, form, _page="https://shop.example/start")
    await anonymous.post(await last_link(db))
    found = await person(client)
    await client.post(f"/v1/subscribers/{found['id']}/unsubscribe")
    answer = await client.get(f"/v1/subscribers/{found['id']}/consents/proof")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for part in (
        "Ada@example.org",
        "&lt;b&gt;Yes&lt;/b&gt; &amp; gladly",
        version({**OLD, "text": "<b>Yes</b> & gladly"}),
        "https://shop.example/start",
        "Field notes",
        "Please confirm",
        "Confirmed from the mailbox",
        "Withdrawn",
    ):
        assert part in answer.text, part
    assert "<script" not in answer.text
    assert "Stands: it has not been withdrawn" not in answer.text
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    assert "@page" in style
    digest = re.search(r"'sha256-([^']+)'", answer.headers["content-security-policy"])[1]
    assert hashlib.sha256(style.encode()).digest() == base64.b64decode(digest)
    await client.patch("/v1/settings", json={"locale": "ru"})
    assert "Подтверждение согласия" in (await client.get(f"/v1/subscribers/{found['id']}/consents/proof")).text
    assert (await client.get("/v1/subscribers/987654321/consents/proof")).status_code == 404
