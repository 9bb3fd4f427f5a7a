"""The pixel, the links and the letter in the browser, over HTTP."""

import msgspec
import pytest

from mailbase.letters.compile import compile_campaign
from mailbase.letters.content import Content
from mailbase.web.track import GIF
from signals.signals_kit import BROWSER, LINKS, counted, make_campaign

PERSON = {"User-Agent": BROWSER}


@pytest.fixture
async def sent(db, app):
    """A campaign with one letter and how to sign its tokens."""
    campaign_id, (letter,) = await make_campaign(db, letters=1)
    return campaign_id, letter, app.state.tokens.sign("letter", letter)


async def test_pixel(anonymous, db, sent):
    """The pixel is a GIF of 43 bytes that nobody caches, and an open."""
    campaign_id, letter, token = sent
    answer = await anonymous.get(f"/o/{token}", headers=PERSON)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/gif", GIF)
    assert len(GIF) == 43
    assert "no-store" in answer.headers["cache-control"]
    assert "set-cookie" not in answer.headers
    row = await db.fetchrow("SELECT delivery_id, verdict, user_agent, ip FROM signals")
    assert (row["delivery_id"], row["verdict"], row["user_agent"], str(row["ip"])) == (
        letter,
        "human",
        BROWSER,
        "127.0.0.1",
    )
    assert (await counted(db, campaign_id))["open.human"] == 1


async def test_head(anonymous, db, sent):
    """HEAD is answered like GET without the body, and counted as a machine's."""
    campaign_id, _, token = sent
    pixel, link = (
        await anonymous.head(f"/o/{token}", headers=PERSON),
        await anonymous.head(f"/l/1/{token}", headers=PERSON),
    )
    assert (pixel.status_code, pixel.headers["content-length"], pixel.content) == (200, "43", b"")
    assert (link.status_code, link.headers["location"]) == (302, LINKS[0])
    numbers = await counted(db, campaign_id)
    assert (numbers["open.machine"], numbers["click.machine"]) == (1, 1)
    assert "open.human" not in numbers


@pytest.mark.parametrize("wish", ["DNT", "Sec-GPC"])
async def test_not_tracked(anonymous, db, sent, wish):
    """Whoever asks not to be tracked is counted like anybody, and neither address nor program is kept."""
    campaign_id, _, token = sent
    for path in ("o", "l/1"):
        await anonymous.get(f"/{path}/{token}", headers={**PERSON, wish: "1"})
    numbers = await counted(db, campaign_id)
    assert (numbers["open.human"], numbers["click.human"]) == (1, 1)
    rows = await db.fetch("SELECT ip, user_agent FROM signals")
    assert [tuple(row) for row in rows] == [(None, ""), (None, "")]
    await anonymous.get(f"/o/{token}", headers={**PERSON, wish: "0"})
    assert await db.fetchval("SELECT user_agent FROM signals ORDER BY id DESC LIMIT 1") == BROWSER


@pytest.mark.parametrize("n", [1, 2, 3])
async def test_link(anonymous, sent, n):
    """A click leads to the stored URL, byte for byte, and tells it nothing about where it comes from."""
    answer = await anonymous.get(f"/l/{n}/{sent[2]}", headers=PERSON)
    assert (answer.status_code, answer.headers["location"]) == (302, LINKS[n - 1])
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in answer.headers["cache-control"]


async def test_link_with_expressions(anonymous, db, sent):
    """A link that holds expressions is filled in for its reader, encoded; for an erased reader they are empty."""
    _, letter, token = sent
    answer = await anonymous.get(f"/l/4/{token}", headers=PERSON)
    assert answer.headers["location"] == "https://shop.example/K%C3%B6ln%20%26%20Bonn"
    await db.execute("UPDATE deliveries SET subscriber_id = NULL WHERE id = $1", letter)
    answer = await anonymous.get(f"/l/4/{token}", headers=PERSON)
    assert (answer.status_code, answer.headers["location"]) == (302, "https://shop.example/")


async def test_nothing_else(anonymous, db, app, sent):
    """No other token, link or letter leads anywhere, and none of them leaves a row."""
    _, letter, token = sent
    other = app.state.tokens.sign("view", letter)
    gone = app.state.tokens.sign("letter", letter + 1000)
    for path in [
        f"/l/0/{token}",
        f"/l/5/{token}",
        f"/l/99999999999999999999/{token}",
        f"/l/-1/{token}",
        f"/l/x/{token}",
        f"/l/1/{token[:-1]}",
        f"/l/1/{other}",
        f"/l/1/{gone}",
        f"/o/{other}",
        f"/o/{token}x",
        "/o/%00",
        "/l/1/http%3A%2F%2Fevil.example",
    ]:
        answer = await anonymous.get(path, headers=PERSON)
        assert answer.status_code == 404, path
        assert "location" not in answer.headers
    assert (await anonymous.get(f"/o/{gone}")).content == GIF
    assert await db.fetchval("SELECT count(*) FROM signals") == 0


async def test_only_get(anonymous, sent):
    """Other methods are refused and say which are not."""
    for path in (f"/o/{sent[2]}", f"/l/1/{sent[2]}"):
        answer = await anonymous.post(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_hostile_headers(anonymous, db, sent):
    """Whatever a client says of itself is kept as text of at most 512 characters."""
    for value in (b"x" * 4000, b"\xff\xfe\x80", b"M\xc3\xb6zilla/5.0"):
        assert (await anonymous.get(f"/o/{sent[2]}", headers={"User-Agent": value})).status_code == 200
    assert [len(row["user_agent"]) for row in await db.fetch("SELECT user_agent FROM signals ORDER BY id")] == [
        512,
        3,
        12,
    ]


async def test_get_changes_nothing_about_a_person(anonymous, db, sent):
    """Opening and clicking leaves a person's status, interests and consents as they were."""
    before = await db.fetchrow("SELECT status, interests, tags, updated_at FROM subscribers")
    for path in ("o", "l/1", "l/2"):
        await anonymous.get(f"/{path}/{sent[2]}", headers=PERSON)
    assert await db.fetchrow("SELECT status, interests, tags, updated_at FROM subscribers") == before
    assert await db.fetchval("SELECT count(*) FROM subscriber_events") == 0


async def compiled(db, campaign_id, **content):
    """Store a campaign's frozen content."""
    found = compile_campaign(
        Content(subject="s", **content),
        base_url="http://mailbase.test",
        postal_address="Street 1",
        locale="en",
        track_opens=True,
        track_clicks=True,
        utm=None,
    )
    await db.execute("UPDATE campaigns SET compiled = $2 WHERE id = $1", campaign_id, msgspec.msgpack.encode(found))


async def test_view(anonymous, db, app, sent):
    """The letter in the browser is the reader's own, without the pixel, and can run nothing."""
    campaign_id, letter, token = sent
    await db.execute('UPDATE subscribers SET attributes = \'{"city": "<Köln>"}\'')
    await compiled(
        db,
        campaign_id,
        html='<html><body><script>1</script><p>{{ subscriber.attributes.city }}</p><a href="https://shop.example/one">x</a></body></html>',
    )
    answer = await anonymous.get(f"/v/{app.state.tokens.sign('view', letter)}", headers=PERSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "&lt;Köln&gt;" in answer.text
    assert f"http://mailbase.test/l/1/{token}" in answer.text
    assert "/u/" in answer.text
    assert "/o/" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox" in policy
    assert "noindex" in answer.headers["x-robots-tag"]
    assert await db.fetchval("SELECT count(*) FROM signals") == 0


async def test_view_text(anonymous, db, app, sent):
    """A letter of text alone is shown as text."""
    await compiled(db, sent[0], text="Hello <b>\nyou")
    answer = await anonymous.get(f"/v/{app.state.tokens.sign('view', sent[1])}")
    assert "Hello &lt;b&gt;\nyou" in answer.text


async def test_view_of_nothing(anonymous, db, app, sent):
    """Another token, a letter that is not there, and the letter of an erased reader are not found."""
    _, letter, token = sent
    await compiled(db, sent[0], text="x")
    view = app.state.tokens.sign("view", letter)
    assert (await anonymous.get(f"/v/{token}")).status_code == 404
    assert (await anonymous.get(f"/v/{app.state.tokens.sign('view', letter + 9)}")).status_code == 404
    await db.execute("UPDATE deliveries SET subscriber_id = NULL")
    assert (await anonymous.get(f"/v/{view}")).status_code == 404
