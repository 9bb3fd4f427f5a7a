"""An owner's pages: name, logo, colours, words, and templates that never cost a reader the button."""

import gzip
import itertools
import re

import httpx
import pytest_asyncio

from mailbase.pages import engine
from mailbase.pages.samples import PAGES, samples
from mailbase.pages.words import Languages, built_in, with_files
from optin.optin_kit import ENTRY, last_link, letters, make_form, submit
from web.test_colors_and_logos import png

HTML = {"Accept": "text/html"}
SPOKEN = Languages(built_in())


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def plain(app, db):
    """Every test starts with mailbase's own look."""
    await db.execute(
        """
        TRUNCATE page_templates, logos;
        UPDATE settings SET name = NULL, website = NULL, postal_address = NULL, accent = NULL, background = NULL, css = NULL,
            texts = '{}', confirm_auto_post = false
        """
    )
    app.state.look = None
    tables = app.state.tables
    yield
    app.state.tables, app.state.look = tables, None


async def test_pages_wear_what_the_owner_chose(client: httpx.AsyncClient, anonymous: httpx.AsyncClient):
    """Name, website and postal address stand around the card; the colours come as a stylesheet of ours that changes its address with them."""
    form = await make_form(client)
    plain = (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text
    assert "look.css" not in plain
    wanted = {
        "name": "Mill Lane <Bakery>",
        "website": "https://bakery.example/",
        "postal_address": "1 Mill Lane\nBath",
        "accent": "#C2410C",
        "background": "#fff7ed",
        "css": ".card { border-radius: 0 }",
    }
    changed = await client.patch("/v1/settings", json=wanted)
    assert changed.status_code == 200, changed.text
    assert changed.json() == {**changed.json(), **wanted, "accent": "#c2410c"}
    page = (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text
    assert "Mill Lane &lt;Bakery&gt;" in page
    assert "1 Mill Lane\nBath" in page
    assert 'href="https://bakery.example/"' in page
    address = re.search(r'href="(/assets/look\.css\?v=\w+)"', page)[1]
    css = await anonymous.get(address)
    assert css.headers["content-type"].startswith("text/css")
    assert "immutable" in css.headers["cache-control"]
    assert "--accent:#c2410c" in css.text
    assert css.text.endswith(wanted["css"])
    home = await anonymous.get("/", headers=HTML)
    assert (home.status_code, home.headers["location"]) == (302, "https://bakery.example/")
    await client.patch("/v1/settings", json=dict.fromkeys(wanted))
    assert (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text.count("Bakery") == 0
    assert (await anonymous.get("/", headers=HTML)).headers["location"] == "/docs"


async def test_letters_of_ours_wear_the_owners_color(client, anonymous, db):
    """The button of the confirmation letter is as those of the pages, with words on it that can be read."""
    form = await make_form(client)
    await client.patch("/v1/settings", json={"accent": "#ffe600"})
    await submit(anonymous, form)
    (letter,) = await letters(db)
    assert "background-color:#ffe600" in letter["html"]
    assert "color:#16181c;text-decoration:none" in letter["html"]


NONSENSE = [
    ({"accent": "red"}, 422, "accent"),
    ({"background": "#fff"}, 422, "background"),
    ({"website": "javascript:alert(1)"}, 422, "website"),
    ({"css": "x" * 16385}, 422, "css"),
    ({"name": "x" * 101}, 422, "name"),
    ({"logo": "x"}, 400, "logo"),
    ({"texts": {"de": {}}}, 422, "texts.de"),
    ({"texts": {"en": {"confirm.titel": "x"}}}, 422, "texts.en"),
    ({"texts": {"en": {"unsubscribe.text": "{secret}"}}}, 422, "texts.en"),
    ({"texts": {"en": {"unsubscribe.button": " "}}}, 422, "texts.en"),
    ({"texts": {"ru": {"errors.slow_text": {"one": "x", "other": "y"}}}}, 422, "texts.ru"),
    ({"texts": {"en": {"confirm.title": ["x"]}}}, 400, None),
    ({"confirm_auto_post": 1}, 400, "confirm_auto_post"),
]


async def test_settings_of_the_look_refuse_nonsense(client: httpx.AsyncClient):
    """Each bad setting is named."""
    for body, status, field in NONSENSE:
        answer = await client.patch("/v1/settings", json=body)
        assert answer.status_code == status, answer.text
        assert field is None or field in {error["field"] for error in answer.json()["errors"]}


async def test_an_owners_words(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db):
    """A sentence of any page may be the owner's, by language; the rest stays."""
    form = await make_form(client)
    texts = {"en": {"confirm.button": "Count me in"}, "ru": {"confirm.button": "Я с вами"}}
    assert (await client.patch("/v1/settings", json={"texts": texts})).json()["texts"] == texts
    await submit(anonymous, form)
    path = await last_link(db)
    page = (await anonymous.get(path, headers=HTML)).text
    assert "Count me in</button>" in page
    assert "One last click" in page
    await client.patch("/v1/settings", json={"texts": {}})
    assert "Yes, subscribe me</button>" in (await anonymous.get(path, headers=HTML)).text


async def test_the_logo(client: httpx.AsyncClient, anonymous: httpx.AsyncClient):
    """A picture is served from an address that names its content, with its size on the page; SVG and what is too large is refused."""
    form = await make_form(client)
    await client.patch("/v1/settings", json={"name": "Bakery"})
    answer = await client.put("/v1/settings/logo", content=png(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    assert (await client.get("/v1/settings")).json()["logo"] == answer.json()["logo"]
    path = answer.json()["logo"].removeprefix("http://mailbase.test")
    page = await anonymous.get(f"/f/{form['key']}", headers=HTML)
    assert f'src="{path}" width="120" height="40" alt="Bakery"' in page.text
    assert "img-src 'self'" in page.headers["content-security-policy"]
    picture = await anonymous.get(path)
    assert (picture.content, picture.headers["content-type"]) == (png(), "image/png")
    assert picture.headers["x-content-type-options"] == "nosniff"
    for content, kind, status in (
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 422),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415),
        (png() + bytes(256 * 1024), "image/png", 413),
        (png(5000, 1), "image/png", 422),
        (b"", "image/png", 422),
    ):
        answer = await client.put("/v1/settings/logo", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status, answer.text
    assert (await client.delete("/v1/settings/logo")).status_code == 204
    assert (await client.get("/v1/settings")).json()["logo"] is None
    assert (await anonymous.get(path)).status_code == 404
    assert (await anonymous.get("/assets/logo-")).status_code == 404
    assert (
        '<span class="name" dir="auto">Bakery</span>' in (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text
    )


OWN = (
    '<!doctype html><html lang="{{ lang }}"><head>{{ head }}</head><body><h6>{{ name }}</h6>{{ content }}</body></html>'
)


async def test_a_page_in_the_owners_template(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db):
    """It is kept, previewed, shown with the form in it, listed and taken back; values stay escaped."""
    await client.patch("/v1/settings", json={"name": "A & B"})
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    previewed = await client.post("/v1/pages/confirm/preview", json={"template": OWN, "locale": "ru"})
    assert previewed.status_code == 200, previewed.text
    assert "<h6>A &amp; B</h6>" in previewed.text
    assert "Да, подписаться" in previewed.text
    assert (await client.get("/v1/pages/confirm")).status_code == 404
    assert (await client.put("/v1/pages/confirm", json={"template": OWN})).json()["template"] == OWN
    page = await anonymous.get(path, headers=HTML)
    assert "<h6>A &amp; B</h6>" in page.text
    assert '<form method="post" action="/c"><input type="hidden" name="token" value="' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert [one["name"] for one in (await client.get("/v1/pages")).json()["data"]] == ["confirm"]
    assert "<h6>" not in (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text
    assert (await client.put("/v1/pages/every", json={"template": OWN})).status_code == 200
    assert "<h6>" in (await anonymous.get(f"/f/{form['key']}", headers=HTML)).text
    assert "<h6>" in (await anonymous.get("/f/nothing", headers=HTML)).text
    for name in ("confirm", "every"):
        assert (await client.delete(f"/v1/pages/{name}")).status_code == 204
    assert "<h6>" not in (await anonymous.get(path, headers=HTML)).text
    assert (await client.get("/v1/pages/nothing")).status_code == 404
    assert (await client.delete("/v1/pages/confirm")).status_code == 404


UNUSABLE = [
    ("<p>{{ content }}\n{{ tite }}", "unknown_variable", "line 2, column 4: unknown variable tite"),
    ("<p>\n{% if content %}", "template_error", "line 2"),
    ("<p>{{ title }}</p>", "missing_form", "would lose its forms"),
    ("<!-- {{ content }} -->", "missing_form", "would lose its forms"),
    ("{{ content | upper }}", "missing_form", "would lose its forms"),
    ("<form action='https://shop.example/'>{{ content }}</form>", "buried_form", "in another form"),
    ("<a title='{{ content }}'>x</a>", "buried_form", "nobody can use"),
    *(
        (f"<header><br><p>We</header><{around}>{{{{ content }}}}</div>", "buried_form", "nobody can use")
        for around in ("template", "script", "textarea", "div hidden", "div inert", "fieldset disabled", "dialog")
    ),
    ("<META Http-Equiv=refresh content='0;url=https://x.example'>{{ content }}", "leads_away", "leave by itself"),
    ("{% include 'base.html' %}{{ content }}", "template_error", "include is not available"),
    (
        "{% for n in range(100000) %}{% for m in range(1000) %}.{% endfor %}{% endfor %}{{ content }}",
        "template_error",
        "",
    ),
    ("{{ content }}{{ words.nothing.here }}", "template_error", "undefined"),
    ("{{ content }}" + "x" * 65536, "invalid_value", ""),
]


async def test_a_template_that_cannot_be_used(client: httpx.AsyncClient):
    """It is refused with the line and the word, before any reader sees it, in the preview as well."""
    for template, code, said in UNUSABLE:
        for answer in (
            await client.put("/v1/pages/confirm", json={"template": template}),
            await client.post("/v1/pages/confirm/preview", json={"template": template}),
        ):
            assert answer.status_code == 422, answer.text
            (error,) = answer.json()["errors"]
            assert (error["field"], error["code"]) == ("template", code)
            assert said in error["message"]


async def test_a_template_that_fails_later_takes_no_page_down(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db, caplog
):
    """Readers get our page with its button, the log a line, the metrics a count."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    for template in ("<p>{{ nothing }}</p>{{ content }}", "<p>{{ title }}</p>", "{% if %}"):
        await db.execute(
            "INSERT INTO page_templates (name, template) VALUES ('confirm', $1) ON CONFLICT (name) DO UPDATE SET template = $1",
            template,
        )
        anonymous._transport.app.state.look = None
        page = await anonymous.get(path, headers=HTML)
        assert page.status_code == 200
        assert "Yes, subscribe me</button>" in page.text
    assert "template of the page confirm is not shown" in caplog.text
    assert 'page="confirm"' in (await client.get("/metrics")).text


async def test_every_page_is_small(client: httpx.AsyncClient):
    """With all it can show, a page is at most 14 kB of HTML, one round trip; the stylesheet at most 3 kB as it travels."""
    for name, language in itertools.product(PAGES, ("en", "ru")):
        answer = await client.post(f"/v1/pages/{name}/preview", json={"locale": language})
        assert answer.status_code == 200, answer.text
        assert len(answer.content) <= 14 * 1024, name
        assert "<script" not in answer.text
        assert f'<html lang="{language}" dir="ltr">' in answer.text
        assert samples(name, SPOKEN.words(language))
    assert len(gzip.compress(engine.asset("pages.css"))) <= 3 * 1024


async def test_a_language_by_a_file(app, client, anonymous, tmp_path, db):
    """A language of the owner's is chosen by the browser, runs the way its script runs, and is that of mistakes and letters as well."""
    folder = tmp_path / "locales"
    folder.mkdir()
    (folder / "he.toml").write_text(
        '[language]\ndirection = "rtl"\n[form]\nsubscribe = "הרשמה"\n[letter]\nbutton = "כן"\n[mistakes]\nrequired = "חסר"\n',
        encoding="utf-8",
    )
    app.state.tables = with_files(folder)
    form = await make_form(client)
    page = (await anonymous.get(f"/f/{form['key']}", headers={**HTML, "Accept-Language": "he-IL"})).text
    assert '<html lang="he" dir="rtl">' in page
    assert "הרשמה</button>" in page
    hebrew = {**HTML, "Accept-Language": "he-IL"}
    assert "חסר" in (await anonymous.post(f"/f/{form['key']}", data={"email": ""}, headers=hebrew)).text
    await anonymous.post(f"/f/{form['key']}", data={**ENTRY}, headers=hebrew)
    letter = await db.fetchrow("SELECT html, subject FROM messages")
    assert "כן" in letter["html"]
    assert 'lang="he"' in letter["html"]
    assert letter["subject"] == "Please confirm: Field notes"


async def test_the_look_of_a_database_that_is_away(app, anonymous, client):
    """A page is shown as it was when the settings cannot be read."""
    await client.patch("/v1/settings", json={"name": "Bakery"})
    assert "Bakery" in (await anonymous.get("/f/nothing", headers=HTML)).text
    pool, app.state.pool = app.state.pool, None
    seen, worn = app.state.look
    app.state.look = seen - look_is_stale(), worn
    app.state.pool = Away()
    try:
        page = await anonymous.get("/nothing/here", headers=HTML)
        away = await anonymous.get("/c/nonsense", headers=HTML)
    finally:
        app.state.pool = pool
    assert page.status_code == 404
    assert "Bakery" in page.text
    assert away.status_code == 503
    assert "Back in a moment</h1>" in away.text
    assert away.headers["x-request-id"] in away.text


def look_is_stale() -> float:
    """Return more seconds than a look is kept."""
    return 3600.0


class Away:
    """A pool whose database is gone."""

    def acquire(self, **_: object):
        """Refuse."""
        raise ConnectionRefusedError


async def test_an_expired_link_leads_back_to_its_form(client, anonymous, db):
    """The page says that the time is over, and offers the form it came from."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    await db.execute("UPDATE confirmations SET expires_at = now() - interval '1 second'")
    for answer in (await anonymous.get(path, headers=HTML), await anonymous.post(path, headers=HTML)):
        assert answer.status_code == 410
        assert f'<a class="button" href="/f/{form["key"]}">Subscribe once more</a>' in answer.text
    assert (await anonymous.post(path, headers={"Accept": "application/json"})).json()["status"] == 410


async def test_a_confirmation_says_until_when(client, anonymous, db):
    """In the reader's time zone where it is known, else in UTC and saying so."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    await db.execute("UPDATE confirmations SET expires_at = '2126-03-08 22:30Z'")
    assert "This link works until 8 March 2126, 22:30 UTC." in (await anonymous.get(path, headers=HTML)).text
    await db.execute("UPDATE subscribers SET timezone = 'Asia/Yekaterinburg'")
    assert "This link works until 9 March 2126, 03:30." in (await anonymous.get(path, headers=HTML)).text


async def test_only_who_wants_it_has_the_button_pressed_by_a_script(client, anonymous, db):
    """Off, the page runs nothing; on, one script of ours, and still the button."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    page = await anonymous.get(path, headers=HTML)
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    await client.patch("/v1/settings", json={"confirm_auto_post": True})
    page = await anonymous.get(path, headers=HTML)
    script = re.search(r'<script src="(/assets/confirm\.js\?v=\w+)" defer>', page.text)[1]
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "Yes, subscribe me</button>" in page.text
    assert (await anonymous.get(script)).headers["content-type"].startswith("text/javascript")
    assert await db.fetchval("SELECT status FROM subscribers") == "pending"


async def test_refusals_are_pages_of_the_house(anonymous):
    """In a browser every error is a page in the reader's language, with the headers of all pages."""
    for path in ("/c/nonsense", "/p/nonsense", "/u/nonsense", "/v/nonsense", "/f/nonsense", "/nowhere"):
        answer = await anonymous.get(path, headers=HTML)
        assert answer.status_code == 404
        assert "There is nothing here</h1>" in answer.text
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-robots-tag"].startswith("noindex")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "Здесь ничего нет" in (await anonymous.get(path, headers={**HTML, "Accept-Language": "ru"})).text
