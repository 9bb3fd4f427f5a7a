"""The link that nobody sees: who follows it is a machine, and so is what it clicks around it."""

from datetime import UTC, datetime, timedelta

import pytest

from mailbase.letters.compile import compile_campaign
from mailbase.letters.content import Content
from mailbase.letters.links import TRAP
from mailbase.signals import verdicts
from mailbase.signals.verdicts import Click
from signals.signals_kit import BROWSER, counted, make_campaign, recounted

PERSON = {"User-Agent": BROWSER}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def compiled(**options):
    """Compile a small campaign."""
    return compile_campaign(
        Content(subject="s", html='<html><body><p><a href="https://shop.example/one">One</a></p></body></html>'),
        base_url="https://mail.shop.example", postal_address="1 Street", locale="en", track_opens=True,
        utm=None, **options,
    )  # fmt: skip


def test_it_is_there_only_on_request():
    """The page holds the trap where it was asked for and clicks are counted; neither the text nor the list of links does."""
    with_trap, without = compiled(track_clicks=True, trap=True), compiled(track_clicks=True)
    assert f"/l/{TRAP}/" in with_trap.html
    assert 'style="display:none"></a>' in with_trap.html
    assert f"/l/{TRAP}/" not in with_trap.text
    assert with_trap.links == without.links
    assert f"/l/{TRAP}/" not in without.html
    assert f"/l/{TRAP}/" not in compiled(track_clicks=False, trap=True).html


def test_all_clicks_within_ten_seconds_are_its():
    """Slow scanners that make no burst give themselves away; a click later, from elsewhere, is a person's."""
    at = [NOON + timedelta(seconds=n) for n in (-11, -10, 0, 10, 11)]
    clicks = [Click(moment, TRAP if moment == NOON else 1) for moment in at]
    assert verdicts.letter(clicks, 18) == [False, True, True, True, False]


async def test_following_it_takes_the_other_click_back(anonymous, client, db, app):
    """A click that was a person's becomes a machine's; the trap leads nowhere and is in no list of links."""
    campaign_id, (letter,) = await make_campaign(db, letters=1)
    await db.execute("INSERT INTO campaign_links (campaign_id, n, url) VALUES ($1, $2, '')", campaign_id, TRAP)
    await db.execute("UPDATE deliveries SET sent_at = now() - interval '1 hour' WHERE id = $1", letter)
    token = app.state.tokens.sign("letter", letter)
    assert (await anonymous.get(f"/l/1/{token}", headers=PERSON)).status_code == 302
    assert (await counted(db, campaign_id))["click.human"] == 1
    assert (await anonymous.get(f"/l/{TRAP}/{token}", headers=PERSON)).status_code == 404
    rows = await db.fetch("SELECT link, verdict, reason FROM signals ORDER BY id")
    assert [tuple(row) for row in rows] == [(1, "machine", "burst"), (TRAP, "machine", "burst")]
    numbers = await counted(db, campaign_id)
    assert "click.human" not in numbers
    assert numbers == await recounted(db, campaign_id)
    stats = (await client.get(f"/v1/campaigns/{campaign_id}/stats")).json()
    assert len(stats["links"]) == 4


@pytest.mark.parametrize("trap", [True, False])
async def test_a_campaign_keeps_the_wish(client, db, trap):
    """The wish is stored, copied and shown where it was made; a campaign without it looks as ever."""
    await make_campaign(db, letters=1)
    draft = {
        "name": "n", "from": {"email": "news@shop.example"}, "subject": "s", "html": "<p>Hello</p>", "audience": {"all": True},
        "track": {"trap": trap},
    }  # fmt: skip
    made = await client.post("/v1/campaigns", json=draft)
    assert made.status_code == 201, made.text
    wanted = {"opens": True, "clicks": True, **({"trap": True} if trap else {})}
    assert made.json()["track"] == wanted
    copy = await client.post(f"/v1/campaigns/{made.json()['id']}/duplicate")
    assert copy.json()["track"] == wanted
    listed = (await client.get("/v1/campaigns")).json()["data"]
    assert listed[0]["track"] == wanted
