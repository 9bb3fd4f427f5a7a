"""People nobody knows yet are stored many at a time; it makes no difference to anybody."""

import asyncio
import re

from mailbase.audience import form_tally
from mailbase.audience.form_counts import MOST, OTHER
from mailbase.optin import intake
from optin.optin_kit import ENTRY, JSON, letters, make_form, submit

ROWS = {
    "subscribers": "SELECT to_jsonb(t) FROM subscribers AS t WHERE email_key = $1",
    "submissions": "SELECT to_jsonb(t) FROM submissions AS t JOIN subscribers AS s ON s.id = subscriber_id WHERE s.email_key = $1",
    "confirmations": "SELECT to_jsonb(t) FROM confirmations AS t JOIN subscribers AS s ON s.id = subscriber_id WHERE s.email_key = $1",
    "events": "SELECT to_jsonb(t) FROM subscriber_events AS t JOIN subscribers AS s ON s.id = subscriber_id WHERE s.email_key = $1 ORDER BY t.id",
    "messages": "SELECT to_jsonb(t) FROM messages AS t WHERE email_key = $1",
    "deliveries": "SELECT to_jsonb(t) FROM deliveries AS t JOIN messages AS m ON m.id = message_id WHERE m.email_key = $1",
}
COUNTS = "SELECT dimension, value, what, sum(n)::integer AS n FROM form_counts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
OWN = {"id", "subscriber_id", "message_id", "email", "email_key"}
"""What is everybody's own, beside moments: looked at only for whether it is there."""


async def everything(db, email):
    """Return what is stored of a person, but for numbers, moments and the link."""
    found = {}
    for name, query in ROWS.items():
        rows = [row[0] for row in await db.fetch(query, email)]
        for row in rows:
            for column in [column for column in row if column in OWN or column.endswith("_at") or column == "at"]:
                row[column] = row[column] is not None
            row.get("data", {}).pop("confirmation_id", None)
            for act in row.get("evidence", {}).get("acts", []):
                assert all(consent.pop("at") for consent in act["consents"])
        found[name] = rows
    for letter in found["messages"]:
        for part in ("html", "text"):
            before, _, rest = letter[part].partition("/c/")
            letter[part] = before + rest.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    letter["html"] = letter["html"].partition("/c/")[0]
    return found


async def test_together_and_alone_leave_the_same_behind(client, anonymous, db):
    """Row by row, whichever way a submission went; a tagged address goes alone, for its family has a wait of its own."""
    form = await make_form(client)
    more = {
        "interests": ["sale", "news"],
        "_page": "https://shop.example/spring?x=1",
        "_source": "Flyer",
        "_mode": "popup",
        "_trigger": "delay:10",
        "_utm_campaign": "May",
    }
    await submit(anonymous, form, email="Ada@example.org", **more)
    counted = [tuple(row) for row in await db.fetch(COUNTS)]
    assert len(counted) == 4
    await submit(anonymous, form, email="Ada+alone@example.org", **more)
    together = await everything(db, "ada@example.org")
    assert together == await everything(db, "ada+alone@example.org")
    assert [event["kind"] for event in together["events"]] == ["created", "confirmation_sent", "submitted"]
    assert [(*row[:3], row[3] // 2) for row in await db.fetch(COUNTS)] == counted


async def test_many_at_once_are_each_taken_once(client, anonymous, db):
    """Strangers among them, twins, spellings of one mailbox, and somebody who is on the list already."""
    form = await make_form(client, protection={"min_seconds": 0, "quarantine": False})
    await submit(anonymous, form, email="known@example.com")
    strangers = [f"p{n}@example.com" for n in range(20)]
    spellings = ["Ada.L@gmail.com", "adal@gmail.com", "a.d.a.l@googlemail.com", "adal@gmail.com"]
    asked = [*strangers, *spellings, "known@example.com"]
    answers = await asyncio.gather(*(submit(anonymous, form, email=email) for email in asked))
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    for email in (*strangers, "known@example.com"):
        assert len(await letters(db, email)) == 1
    assert await db.fetchval("SELECT count(*) FROM messages WHERE email_key LIKE '%mail.com'") == 1
    assert await db.fetchval("SELECT count(*) FROM submissions") == len(asked) + 1
    assert await db.fetchval("SELECT count(*) FROM submissions WHERE outcome = 'accepted'") == len(strangers) + 2


async def test_a_form_is_what_its_owner_made_of_it_last(client, anonymous, db):
    """A process remembers forms; whatever changes them, here or elsewhere, holds from the next submission on."""
    form = await make_form(client)
    numbers = iter(range(100))

    async def ask(**entry):
        email = f"p{next(numbers)}@example.com"
        answer = await submit(anonymous, form, **{**ENTRY, "email": email, **entry})
        return answer.status_code, (await letters(db, email) or [None])[-1]

    status, letter = await ask()
    assert (status, "News" in letter["text"]) == (202, True)
    await db.execute("UPDATE interests SET name = 'Novelties' WHERE slug = 'news'")
    assert "Novelties" in (await ask())[1]["text"]
    await db.execute("UPDATE settings SET postal_address = '1 Mill Lane'")
    assert "1 Mill Lane" in (await ask())[1]["text"]
    city = """UPDATE forms SET definition = jsonb_set(definition, '{fields,0,required}', $1)"""
    await db.execute(city, True)
    assert (await ask(city=""))[0] == 422
    await db.execute(city, False)
    assert (await ask(city=""))[0] == 202
    await db.execute("DELETE FROM interests WHERE slug = 'news'")
    assert (await ask(interests=["sale"]))[0] == 202
    await db.execute(
        "UPDATE forms SET definition = jsonb_set(definition, '{allowed_origins}', '[\"https://shop.example\"]')"
    )
    visitor = {**JSON, "Origin": "https://elsewhere.example"}
    entry = {**ENTRY, "interests": ["sale"], "email": "last@example.com"}
    assert (await anonymous.post(f"/f/{form['key']}", data=entry, headers=visitor)).status_code == 403
    await db.execute("DELETE FROM forms")
    assert (await ask(interests=["sale"]))[0] == 404


async def test_a_form_that_is_looked_at_is_the_last_one_too(client, anonymous, db):
    """Its page, its configuration and the counting of views read what is remembered only as long as it holds."""
    form = await make_form(client)
    browser = {"User-Agent": "Mozilla/5.0 Firefox/140.0", "Accept": "text/html"}
    page, config, events = f"/f/{form['key']}", f"/f/{form['key']}/config.json", f"/f/{form['key']}/events"
    view = {"type": "view", "page": "https://shop.example/a"}

    async def look():
        shown = await anonymous.get(page, headers=browser)
        said = await anonymous.get(config, headers=browser)
        seen = await anonymous.post(events, json=view, headers={**browser, **JSON})
        return (shown.status_code, said.status_code, seen.status_code), shown.text, said.text

    assert (await look())[0] == (200, 200, 204)
    await db.execute(
        """UPDATE forms SET definition = jsonb_set(definition, '{texts,title}', '"Letters from the mill"')"""
    )
    statuses, shown, said = await look()
    assert (statuses, "from the mill" in shown, "from the mill" in said) == ((200, 200, 204), True, True)
    many = [anonymous.post(events, json=view, headers={**browser, **JSON}) for _ in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*many)} == {204}
    counted = await db.fetch(
        "SELECT value, sum(n)::integer FROM form_counts WHERE dimension = 'page' GROUP BY 1 ORDER BY 2"
    )
    assert [tuple(row) for row in counted] == [(f"http://mailbase.test{page}", 2), ("https://shop.example/a", 22)]
    await db.execute("DELETE FROM forms")
    assert (await look())[0] == (404, 404, 404)


async def test_no_flood_of_names_gets_past_the_most_a_day(client, anonymous, db):
    """Names that nobody knew yet and that come all at once are counted as others from there on."""
    form = await make_form(client)
    browser = {"User-Agent": "Mozilla/5.0 Firefox/140.0", **JSON}
    views = [
        anonymous.post(f"/f/{form['key']}/events", json={"type": "view", "mode": f"mode-{n}"}, headers=browser)
        for n in range(45)
    ]
    assert {answer.status_code for answer in await asyncio.gather(*views)} == {204}
    found = dict(await db.fetch("SELECT value, sum(n)::integer FROM form_counts WHERE dimension = 'mode' GROUP BY 1"))
    assert (len(found), sum(found.values())) == (MOST["mode"] + 1, 45)
    assert found[OTHER] == 45 - MOST["mode"]


async def test_nothing_is_looked_up_by_reading_a_whole_table(db):
    """Neither by reading rows nor by hashing them: both would grow with the list."""
    await db.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    await db.execute(f"PREPARE look (bigint[], text[], text[], text[], bytea[]) AS {intake.LOOK}")
    await db.execute(f"PREPARE store (json, text[], text[], text, text) AS {intake.STORE}")
    await db.execute(
        f"PREPARE count (bigint[], text[], bigint[], text[], text[], text[], text[], integer[], bigint[], text) AS {form_tally.COUNT}"
    )
    asked = {
        "look": "'{1}', '{a}', '{b}', '{c}', '{x}'",
        "store": "'[]', '{}', '{}', '*', '{}'",
        "count": "'{1}', '{1}', '{1}', '{1}', '{view}', '{page}', '{x}', '{200}', '{1}', '*'",
    }
    for name, arguments in asked.items():
        plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN EXECUTE {name} ({arguments})"))
        assert "Index" in plan
        assert set(re.findall(r"Seq Scan on (\w+)", plan)) <= {"settings"}, plan
        assert "hashed" not in plan, plan
