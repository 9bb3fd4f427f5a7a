"""A form's numbers: by day, page, source, mode and trigger; as a picture; beside another form's."""

import asyncio
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from mailbase.audience import form_chart, form_counts
from mailbase.audience.form_counts import FormStats, Whence
from optin.optin_kit import last_link, make_form, submit

SHOP = "https://shop.example"
SVG = "{http://www.w3.org/2000/svg}"
ROBOTS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "facebookexternalhit/1.1",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (Linux; Android 11) AppleWebKit/537.36 Chrome/120 Mobile Safari/537.36 Chrome-Lighthouse",
    "",
]


async def event(visitor, form, kind, headers=None, **said):
    """Report what happened at a form."""
    body = {"type": kind, **said}
    assert (await visitor.post(f"/f/{form['key']}/events", json=body, headers=headers)).status_code == 204


async def stats(client, form, **query):
    """Return the numbers."""
    answer = await client.get(f"/v1/forms/{form['id']}/stats", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_dimension_is_counted(client, anonymous, db):
    """Views, starts, submissions and confirmations fall under the page, source, mode and trigger the page named, and rates follow."""
    form = await make_form(client)
    popup = {"page": f"{SHOP}/a?x=1", "source": "Flyer ", "mode": "popup", "trigger": "delay:10"}
    for _ in range(3):
        await event(anonymous, form, "view", **popup)
    await event(anonymous, form, "view", page=f"{SHOP}/b", mode="inline", utm_source="vk")
    await event(anonymous, form, "start", **popup)
    await submit(anonymous, form, **{f"_{name}": value for name, value in popup.items()})
    await anonymous.post(await last_link(db))
    found = await stats(client, form)
    assert (found["views"], found["starts"], found["submits"], found["confirmed"]) == (4, 1, 1, 1)
    taken = "SELECT count(*) FROM submissions WHERE outcome IN ('accepted', 'activated')"
    assert await db.fetchval(taken) == found["submits"]
    assert await db.fetchval("SELECT count(*) FROM confirmations WHERE confirmed_at IS NOT NULL") == found["confirmed"]
    assert found["rates"] == {"start": 0.25, "submit": 0.25, "confirm": 1.0, "conversion": 0.25}
    all_of_it = {"views": 3, "starts": 1, "submits": 1, "confirmed": 1}
    one_view = {"views": 1, "starts": 0, "submits": 0, "confirmed": 0}
    assert found["by_page"] == [{"page": f"{SHOP}/a", **all_of_it}, {"page": f"{SHOP}/b", **one_view}]
    assert found["by_source"] == [{"source": "flyer", **all_of_it}, {"source": "vk", **one_view}]
    assert found["by_mode"] == [{"mode": "popup", **all_of_it}, {"mode": "inline", **one_view}]
    assert found["by_trigger"] == [{"trigger": "delay", **all_of_it}, {"trigger": "", **one_view}]


async def test_the_hosted_page_says_where_it_stands(client, anonymous, db):
    """Its views and submissions are of mode hosted, with the source and the hidden value of the link that led there."""
    form = await make_form(client, fields=[{"name": "shop", "type": "hidden", "value": "none"}])
    path = f"/f/{form['key']}"
    page = await anonymous.get(path, params={"source": "till", "shop": '"North"', "utm_campaign": "spring"})
    for part in (
        'name="_source" value="till"',
        'value="&quot;North&quot;"',
        'name="_utm_campaign" value="spring"',
        'name="_mode" value="hosted"',
    ):
        assert part in page.text
    await submit(
        anonymous,
        form,
        shop='"North"',
        _source="till",
        _mode="hosted",
        _utm_campaign="spring",
        _page=form["hosted_url"],
    )
    found = await stats(client, form)
    assert [(row["source"], row["views"], row["submits"]) for row in found["by_source"]] == [("till", 1, 1)]
    assert [(row["mode"], row["views"], row["submits"]) for row in found["by_mode"]] == [("hosted", 1, 1)]
    row = await db.fetchrow("SELECT fields, whence FROM submissions")
    assert row["fields"] == {"shop": '"North"'}
    assert row["whence"] == {"source": "till", "mode": "hosted", "utm_campaign": "spring"}


async def test_robots_see_a_form_uncounted(client, anonymous):
    """Neither the hosted page nor the script's report counts for a program that says what it is, nor for a page fetched ahead."""
    form = await make_form(client)
    await anonymous.get(f"/f/{form['key']}", headers={"Sec-Purpose": "prefetch;prerender"})
    for agent in ROBOTS:
        await anonymous.get(f"/f/{form['key']}", headers={"User-Agent": agent})
        await event(anonymous, form, "view", headers={"User-Agent": agent})
    assert (await stats(client, form))["views"] == 0


async def test_invented_names_do_not_fill_the_table(client, anonymous, db):
    """A form remembers so many sources a day; what comes after counts as other, and nobody can write that name."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO form_counts (form_id, day, dimension, value, what, n) SELECT $1, current_date, 'source', 's' || n, 'view', 1 FROM generate_series(1, $2::int) AS n",
        form["id"],
        form_counts.MOST["source"] - 1,
    )
    for source in ("*", "last", "one too many", "two too many", "last", "s1"):
        await event(anonymous, form, "view", source=source)
    found = {row["source"]: row["views"] for row in (await stats(client, form))["by_source"]}
    assert {name: found[name] for name in ("", "last", "other", "s1")} == {"": 1, "last": 2, "other": 2, "s1": 2}


async def test_a_crowd_does_not_wait_for_one_row(client, db, pool):
    """While somebody's transaction holds their counters, others count on."""
    form = await make_form(client)
    whence = Whence(page=f"{SHOP}/")
    held = db.transaction()
    await held.start()
    await form_counts.add(db, form["id"], "view", whence)
    connections = [await pool.acquire() for _ in range(5)]
    try:
        await asyncio.wait_for(
            asyncio.gather(*(form_counts.add(other, form["id"], "view", whence) for other in connections)), 5
        )
    finally:
        for other in connections:
            await pool.release(other)
        await held.rollback()
    assert (await stats(client, form))["views"] == 5


async def test_old_days_are_folded(client, db):
    """One row of what each connection counted; not a number changes, and today's are left alone."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO form_counts (form_id, day, value, what, slot, n) SELECT $1, current_date - back, 'https://a.example/', 'view', slot, 1 FROM generate_series(0, 3) AS back, generate_series(0, 9) AS slot",
        form["id"],
    )
    before = await stats(client, form)
    for _ in range(3):
        await form_counts.fold(db)
    assert await stats(client, form) == before
    assert await db.fetchval("SELECT count(*) FROM form_counts") == 10 + 10 + 1 + 1


async def test_days_can_be_chosen(client, db):
    """Both ends included; the end before the beginning is refused."""
    form = await make_form(client)
    await db.execute(
        "INSERT INTO form_counts (form_id, day, value, what, n) SELECT $1, date '2026-01-01' + n, '', 'view', 1 FROM generate_series(0, 9) AS n",
        form["id"],
    )
    found = await stats(client, form, **{"from": "2026-01-03", "to": "2026-01-05"})
    assert [row["date"] for row in found["by_day"]] == ["2026-01-03", "2026-01-04", "2026-01-05"]
    assert found["views"] == 3
    assert (await stats(client, form, **{"from": "2026-01-08"}))["views"] == 3
    wrong = await client.get(f"/v1/forms/{form['id']}/stats", params={"from": "2026-01-05", "to": "2026-01-03"})
    assert wrong.status_code == 422
    assert (await client.get(f"/v1/forms/{form['id']}/stats", params={"from": "yesterday"})).status_code in {400, 422}


async def test_the_chart_is_a_picture(client, anonymous):
    """An SVG with a title and a description, light and dark, in which the owner's words are text."""
    form = await make_form(client, name="<b>Spring & summer</b>")
    for _ in range(12):
        await event(anonymous, form, "view")
    answer = await client.get(f"/v1/forms/{form['id']}/stats.svg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    root = ET.fromstring(answer.text)
    assert root.find(f"{SVG}title").text == "<b>Spring & summer</b>"
    assert "12 views" in root.find(f"{SVG}desc").text
    assert "prefers-color-scheme:dark" in root.find(f"{SVG}style").text
    assert len(answer.content) < 6000
    assert (await client.get(f"/v1/forms/{form['id']}/stats.svg", params={"from": "1900-01-01"})).status_code == 422
    assert (
        await client.get(f"/v1/forms/{form['id']}/stats.svg", params={"from": "2026-01-01", "to": "2026-01-01"})
    ).status_code == 200


def test_any_stretch_of_days_fits_the_chart():
    """One day or ten years, nothing or millions: at most 62 bars, none higher than the scale, and every count in one of them."""
    today = datetime(2026, 3, 1, tzinfo=UTC).date()
    for days in (1, 2, 30, 62, 63, 365, 3660):
        for n in (0, 1, 7, 1234, 5_000_000):
            counted = {"views": n, "starts": 0, "submits": n // 3, "confirmed": n // 9}
            by_day = [
                form_counts.Day(date=today - timedelta(days=back), **counted) for back in {0, days // 2, days - 1}
            ]
            total = {name: value * len(by_day) for name, value in counted.items()}
            rates = form_counts.rates(form_counts.Counts(**total))
            found = FormStats(**total, rates=rates, by_day=by_day, by_page=[], by_source=[], by_mode=[], by_trigger=[])
            since = today - timedelta(days=days - 1)
            picture = ET.fromstring(form_chart.draw("Form", found, since=since, until=today, locale="ru"))
            assert len(picture.findall(f"{SVG}path[@class='v']")) <= form_chart.MOST_BARS
            assert sum(bar.views for bar in form_chart._bars(by_day, since, today)[1]) == total["views"]
            assert (n > 0) == bool(picture.findall(f"{SVG}path"))


async def test_two_forms_are_compared(client, db):
    """Rates, difference, interval and a plain word; the same form twice or a missing one is refused."""
    one, other = await make_form(client, name="Left"), await make_form(client, name="Right")
    for form, won in ((one, 80), (other, 130)):
        await db.execute(
            "INSERT INTO form_counts (form_id, day, value, what, n) VALUES ($1, current_date, '', 'view', 1000), ($1, current_date, '', 'confirmed', $2)",
            form["id"],
            won,
        )
    found = (await client.get("/v1/forms/compare", params={"ids": f"{one['id']},{other['id']}"})).json()
    assert (found["by"], found["verdict"], found["better"], found["difference"]) == (
        "confirmed",
        "likely",
        other["id"],
        0.05,
    )
    assert [side["rate"] for side in found["forms"]] == [0.08, 0.13]
    assert "“Right” is probably better" in found["said"]
    by_submit = await client.get("/v1/forms/compare", params={"ids": f"{one['id']},{other['id']}", "by": "submit"})
    assert by_submit.json()["verdict"] == "too_few"
    for ids, status in (
        (f"{one['id']},{one['id']}", 422),
        (f"{one['id']},987654321", 404),
        ("1", 422),
        ("1,2,3", 422),
        ("a,b", 422),
    ):
        assert (await client.get("/v1/forms/compare", params={"ids": ids})).status_code == status, ids
