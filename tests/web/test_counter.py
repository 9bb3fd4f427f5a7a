"""At the counter: the QR code, the sign to print, and the till."""

import asyncio
import re
import struct
import zlib
from itertools import product
from uuid import uuid4
from xml.etree import ElementTree as ET

from mailbase.optin import tills
from optin.optin_kit import ENTRY, JSON, letters, make_form, person

SVG = "{http://www.w3.org/2000/svg}"


async def make_till(client, form, name="Front desk", **more):
    """Return a new till."""
    answer = await client.post(f"/v1/forms/{form['id']}/till", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def path_of(till):
    """Return the path of a till's link."""
    return till["url"].removeprefix("http://mailbase.test")


def drawn(picture, width):
    """Return the dark modules of a code drawn as one path, row by row."""
    rows = [[False] * width for _ in range(width)]
    for x, y, n in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", picture):
        rows[int(y)][int(x) : int(x) + int(n)] = [True] * int(n)
    return rows


def pixels(png):
    """Return the dark pixels of a black-and-white PNG, row by row, and its width."""
    width, height, depth = struct.unpack(">IIB", png[16:25])
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    lines = zlib.decompress(data)
    stride = (width * depth + 7) // 8 + 1
    rows, above = [], bytes(stride - 1)
    for n in range(height):
        line = lines[n * stride + 1 : (n + 1) * stride]
        if lines[n * stride] == 2:  # the difference to the line above (PNG, 9.2)
            line = bytes((one + other) % 256 for one, other in zip(line, above, strict=True))
        rows.append(line)
        above = line
    return [[not row[x // 8] >> (7 - x % 8) & 1 for x in range(width)] for row in rows], width


async def test_both_pictures_are_the_same_code(client, anonymous):
    """SVG and PNG hold the same modules, with a quiet zone of four around them."""
    form = await make_form(client)
    picture = await anonymous.get(f"/f/{form['key']}/qr.svg?size=400")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.headers["content-security-policy"] == "default-src 'none'"
    root = ET.fromstring(picture.text)
    assert root.find(f"{SVG}title").text == "Field notes"
    width = int(root.get("viewBox").split()[2])
    assert root.get("width") == "400"
    code = drawn(picture.text, width)
    assert not any(any(row[:4]) or any(row[-4:]) for row in code)
    assert all(code[4][4:11])
    png = await anonymous.get(f"/f/{form['key']}/qr.png?size={width * 3 + 1}")
    assert png.headers["content-type"] == "image/png"
    dots, across = pixels(png.content)
    assert across == width * 3
    assert [row[1::3] for row in dots[1::3]] == code


async def test_words_stand_under_the_code(client, anonymous):
    """Broken into lines, escaped, and in SVG only."""
    form = await make_form(client)
    label = "Leave your address & get <10 %> off your next loaf of bread"
    root = ET.fromstring((await anonymous.get(f"/f/{form['key']}/qr.svg", params={"label": label})).text)
    lines = [text.text for text in root.iter(f"{SVG}text")]
    assert " ".join(lines) == label == root.find(f"{SVG}title").text
    assert len(lines) == 3
    assert (await anonymous.get(f"/f/{form['key']}/qr.png?label=x", headers=JSON)).status_code == 422


async def test_a_code_says_where_it_hangs(client, anonymous):
    """``qr`` unless the owner calls it something else; another source is another code, and the hosted page passes it on."""
    form = await make_form(client)
    plain = (await anonymous.get(f"/f/{form['key']}/qr.svg")).text
    assert plain == (await anonymous.get(f"/f/{form['key']}/qr.svg?source=qr")).text
    assert plain != (await anonymous.get(f"/f/{form['key']}/qr.svg?source=window")).text
    assert 'name="_source" value="window"' in (await anonymous.get(f"/f/{form['key']}?source=window")).text


async def test_a_code_has_limits(client, anonymous):
    """What would make a picture nobody can use is refused."""
    form = await make_form(client)
    queries = ["size=63", "size=5000", "size=x", "size=²", f"label={'x' * 81}", f"source={'x' * 51}", "label=%00"]
    for query, kind in product(queries, ("svg", "png")):
        answer = await anonymous.get(f"/f/{form['key']}/qr.{kind}?{query}", headers=JSON)
        assert answer.status_code == 422, query
    assert (await anonymous.get("/f/nowhere/qr.png", headers=JSON)).status_code == 404


async def test_a_sign_says_what_the_guest_gets(client, anonymous):
    """The form's title and intro, or the owner's words for this sheet; the code as a drawing; one, or four to cut apart."""
    form = await make_form(
        client, texts={"title": "Fresh bread by mail", "intro": "News on <Fridays>"}, lead_magnet={"title": "Recipes", "url": "https://shop.example/r"}
    )  # fmt: skip
    sheet = f"/f/{form['key']}/sheet"
    page = (await anonymous.get(sheet)).text
    assert "Fresh bread by mail</h1>" in page
    assert "News on &lt;Fridays&gt;" in page
    assert "And you get: Recipes" in page
    assert page.count("<svg") == 1
    words = {"paper": "a4", "headline": "10 % today", "lines": "Leave your address|<b>get the receipt</b>"}
    page = (await anonymous.get(sheet, params=words)).text
    assert page.count("<svg") == page.count("10 % today</h1>") == 4
    assert page.count("&lt;b&gt;get the receipt&lt;/b&gt;") == 4
    assert "Recipes" not in page
    for query in ("paper=a3", f"headline={'x' * 121}", "lines=a|b|c|d", f"lines={'x' * 121}"):
        assert (await anonymous.get(f"{sheet}?{query}", headers=JSON)).status_code == 422
    answer = await anonymous.get("/assets/sheet.css")
    assert "105mm 148mm" in answer.text


async def test_a_till_has_a_link_of_its_own(client, anonymous, db):
    """Made by the owner, listed, taken back; no other form's, none that was made up or whose time is over."""
    form, other = await make_form(client), await make_form(client)
    till = await make_till(client, form, "  Front   desk ")
    assert (till["name"], till["source"]) == ("Front desk", "till:Front desk")
    second = await make_till(client, form, "Terrace", days=7)
    assert (await client.get(f"/v1/forms/{form['id']}/tills?include_total=true")).json() == {
        "data": [second, till],
        "next_cursor": None,
        "total": 2,
    }
    page = await anonymous.get(path_of(till))
    assert page.status_code == 200
    assert "Front desk" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    for path in (path_of(till).replace(form["key"], other["key"]), f"/f/{form['key']}/till/nonsense"):
        assert (await anonymous.get(path)).status_code == 410
        assert (await anonymous.post(path, data=ENTRY, headers=JSON)).status_code == 410
    assert (await client.delete(f"/v1/forms/{other['id']}/tills/{till['id']}")).status_code == 404
    assert (await client.delete(f"/v1/forms/{form['id']}/tills/{till['id']}")).status_code == 204
    assert (await anonymous.get(path_of(till), headers={"Accept": "text/html"})).status_code == 410
    await db.execute("UPDATE tills SET expires_at = now()")
    assert (await anonymous.get(path_of(second))).status_code == 410
    for body, code in (
        ({"name": " "}, "invalid_name"),
        ({"name": "x" * 51}, "invalid_name"),
        ({"name": "x", "days": 0}, "out_of_range"),
    ):
        answer = await client.post(f"/v1/forms/{form['id']}/till", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_guest_subscribes_at_the_till(client, anonymous, db):
    """As at any form, and the statistics know where."""
    form = await make_form(client)
    till = await make_till(client, form)
    answer = await anonymous.post(path_of(till), data=ENTRY, headers=JSON)
    assert (answer.status_code, answer.json()) == (202, {"status": "pending"})
    assert len(await letters(db)) == 1
    assert (await person(client))["status"] == "pending"
    assert dict(await db.fetchrow("SELECT page, whence FROM submissions")) == {
        "page": f"http://mailbase.test/f/{form['key']}",
        "whence": {"source": "till:Front desk", "mode": "till"},
    }
    wrong = await anonymous.post(path_of(till), data={"email": "nobody"}, headers=JSON)
    assert wrong.status_code == 422
    assert {error["field"] for error in wrong.json()["errors"]} == {"email", "consent_newsletter"}
    assert (await anonymous.post(path_of(till), data={**ENTRY, "_id": "7"}, headers=JSON)).status_code == 422


async def test_a_till_works_without_its_script(client, anonymous):
    """A page with the mistakes, a page of thanks, and from there back to an empty form by itself."""
    till = await make_till(client, await make_form(client))
    wrong = await anonymous.post(path_of(till), data={"email": "nobody"})
    assert wrong.status_code == 422
    assert 'id="fault-email">' in wrong.text
    thanks = await anonymous.post(path_of(till), data=ENTRY)
    assert thanks.headers["refresh"] == f"8; url={path_of(till)}"
    assert path_of(till) in thanks.text
    assert "ada" not in thanks.text.lower()


async def test_the_same_guest_again_is_a_repetition(client, anonymous, db):
    """However often and however closely it comes: one submission; another number is another guest, another till has its own."""
    form = await make_form(client)
    till, other = await make_till(client, form), await make_till(client, form)
    entry = {**ENTRY, "_id": str(uuid4())}
    wrong = await anonymous.post(path_of(till), data={**entry, "email": "nobody"}, headers=JSON)
    assert wrong.status_code == 422  # what was refused uses up no number
    answers = await asyncio.gather(*(anonymous.post(path_of(till), data=entry, headers=JSON) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    count = "SELECT count(*) FROM submissions"
    assert await db.fetchval(count) == 1
    await anonymous.post(path_of(till), data={**entry, "_id": str(uuid4())}, headers=JSON)
    await anonymous.post(path_of(other), data=entry, headers=JSON)
    assert await db.fetchval(count) == 3
    await db.execute("UPDATE till_entries SET at = at - interval '8 days'")
    await tills.forget_old(db)
    assert await db.fetchval("SELECT count(*) FROM till_entries") == 0


async def test_a_till_has_a_limit_of_its_own(client, anonymous):
    """More guests than one network may be, fewer than a stolen link would like to be."""
    form = await make_form(client)
    till = await make_till(client, form)
    statuses = []
    while len(statuses) < 130 and 429 not in statuses:  # a minute may end meanwhile, and its count with it
        answer = await anonymous.post(path_of(till), data={"email": "nobody"}, headers=JSON)
        statuses.append(answer.status_code)
    assert (set(statuses[:60]), statuses[-1]) == ({422}, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert (await anonymous.post(f"/f/{form['key']}", data=ENTRY, headers=JSON)).status_code == 202
