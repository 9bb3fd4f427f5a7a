"""The outbox: whole letters as files, a full disk that says so, and a viewer that lets nothing run."""

import os
import stat

import httpx
import pytest

from mailbase.sending.outcomes import Envelope, Outcome
from mailbase.sending.smtp import outbox
from mailbase.sending.smtp.outbox import OutboxTransport

EVIL = (
    b"From: =?utf-8?q?L=C3=A4den?= <news@example.org>\r\nTo: ann@example.com\r\nSubject: <script>alert(1)</script>\r\n"
    b"Date: Sun, 22 Nov 2026 06:40:33 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain </pre><script>alert(2)</script>\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><head></head><body><script>alert(3)</script><a href='https://x.example'>x</a></body></html>\r\n--b--\r\n"
)


async def put(folder, *letters: Envelope) -> list[Outcome]:
    outcomes: list[Outcome] = []
    transport = OutboxTransport(folder)
    await transport.hand_over(letters, outcomes.append)
    await transport.close()
    return outcomes


def letter(number: int, data: bytes = EVIL) -> Envelope:
    return Envelope(number, "b.1@example.org", "ann@example.com", data)


async def test_a_letter_is_a_file_with_its_envelope_on_top(tmp_path):
    """The file is named after the delivery, begins with the two envelope lines, and holds the letter byte for byte."""
    folder = tmp_path / "deep" / "outbox"
    outcomes = await put(folder, *[letter(number) for number in range(1, 151)])
    assert [(one.delivery_id, one.kind) for one in outcomes] == [(number, "sent") for number in range(1, 151)]
    raw = (folder / "150.eml").read_bytes()
    assert raw == b"X-Mailbase-From: b.1@example.org\r\nX-Mailbase-To: ann@example.com\r\n" + EVIL
    assert len(list(folder.iterdir())) == 150
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "150.eml").stat().st_mode) == 0o600
    assert outbox.read(folder, 150) == outbox.Kept(150, "b.1@example.org", "ann@example.com", EVIL)
    assert outbox.newest(folder, limit=2) == [150, 149]
    assert outbox.newest(folder, before=3, limit=9) == [2, 1]


async def test_a_letter_sent_again_replaces_its_file(tmp_path):
    """A retry leaves one file, the newer."""
    await put(tmp_path, letter(7, b"Subject: one\r\n\r\n"), letter(7, b"Subject: two\r\n\r\n"))
    assert [path.name for path in tmp_path.iterdir()] == ["7.eml"]
    assert outbox.read(tmp_path, 7).message == b"Subject: two\r\n\r\n"


async def test_an_envelope_cannot_write_lines_of_its_own(tmp_path):
    """Line ends in an address do not make a third line on top."""
    await put(tmp_path, Envelope(1, "a@b\r\nX-Evil: 1", "c@d\n", b"Subject: x\r\n\r\n"))
    assert (
        tmp_path / "1.eml"
    ).read_bytes() == b"X-Mailbase-From: a@bX-Evil: 1\r\nX-Mailbase-To: c@d\r\nSubject: x\r\n\r\n"


async def test_an_outbox_that_cannot_be_written_stops_and_says_why(tmp_path):
    """A folder in the way, or a full disk, sends letters back to the queue with the reason and leaves no half letter."""
    blocked = tmp_path / "outbox"
    blocked.write_text("a file where the folder should be")
    outcomes = await put(blocked, letter(1), letter(2))
    assert {(one.kind, one.phase) for one in outcomes} == {("relay", "outbox")}
    assert str(blocked) in outcomes[0].reply
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / f".3.{os.getpid()}.part").symlink_to("/dev/full")
    (outcome,) = await put(folder, letter(3))
    assert outcome.kind == "relay"
    assert not (folder / "3.eml").exists()


@pytest.fixture
async def kept(settings):
    await put(settings.outbox_dir, *[letter(number) for number in range(1, 61)])
    return settings.outbox_dir


@pytest.mark.usefixtures("kept")
async def test_the_viewer_pages_through_the_letters(client: httpx.AsyncClient):
    """Newest first, fifty a page, with a link to the older ones."""
    first = await client.get("/outbox")
    assert first.status_code == 200
    assert first.text.index("/outbox/60") < first.text.index("/outbox/11")
    assert '/outbox/10"' not in first.text
    older = await client.get("/outbox", params={"before": 11})
    assert '"/outbox/10"' in older.text
    assert 'rel="next"' not in older.text


@pytest.mark.usefixtures("kept")
async def test_nothing_of_a_letter_runs_in_the_viewer(client: httpx.AsyncClient):
    """Subject, headers and text are escaped; the HTML comes in a sandbox whose policy forbids scripts."""
    page = await client.get("/outbox/60")
    assert "<script>" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert 'sandbox="allow-popups' in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    html = await client.get("/outbox/60/html")
    policy = html.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "sandbox" in policy
    assert "allow-scripts" not in policy + page.text
    assert '<base target="_blank">' in html.text
    raw = await client.get("/outbox/60/raw")
    assert raw.content == EVIL
    assert raw.headers["content-disposition"] == 'attachment; filename="60.eml"'


async def test_looking_at_a_letter_is_no_open(client: httpx.AsyncClient, settings):
    """The viewer shows a letter without its pixel, whatever else it shows."""
    pixel = f'<img src="{settings.public_url}/o/AbC-9_x" alt=""><img src="https://shop.example/o/logo.png">'
    await put(settings.outbox_dir, letter(61, EVIL.replace(b"<a href", pixel.encode() + b"<a href")))
    html = (await client.get("/outbox/61/html")).text
    assert "AbC-9_x" not in html
    assert "https://shop.example/o/logo.png" in html


@pytest.mark.usefixtures("kept")
async def test_a_letter_that_is_not_there_is_not_found(client: httpx.AsyncClient):
    """Unknown numbers are 404 on every page of the viewer."""
    for path in ("/outbox/999", "/outbox/999/html", "/outbox/999/raw"):
        assert (await client.get(path)).status_code == 404


async def test_a_letter_nobody_can_parse_is_still_shown(client: httpx.AsyncClient, settings):
    """Garbage instead of a letter does not break the list or the page."""
    await put(
        settings.outbox_dir,
        letter(1, b"\xff\xfe\x00 no header at all"),
        letter(2, b"Date: \r\nTo: =?x?y?z?=\r\nFrom: @@\r\n\r\n"),
    )
    for path in ("/outbox", "/outbox/1", "/outbox/2"):
        assert (await client.get(path)).status_code == 200


@pytest.mark.usefixtures("kept")
async def test_who_may_look(app, anonymous: httpx.AsyncClient, client: httpx.AsyncClient):
    """The admin key opens the outbox anywhere; without it only a direct request from this machine under a local name."""
    assert (await client.get("/outbox", headers={"X-Forwarded-For": "203.0.113.1"})).status_code == 200
    assert (await anonymous.get("/outbox")).status_code == 401
    reader = (await client.post("/v1/keys", json={"name": "reader", "scopes": ["stats:read"]})).json()["secret"]
    assert (await anonymous.get("/outbox", headers={"Authorization": f"Bearer {reader}"})).status_code == 403
    for path in ("/outbox", "/outbox/60", "/outbox/60/html", "/outbox/60/raw"):
        assert (await anonymous.get(path, headers={"Host": "localhost:8000"})).status_code == 200
        assert (await anonymous.get(path, headers={"Host": "rebound.example"})).status_code == 401
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            assert (await anonymous.get(path, headers={"Host": "localhost", name: "127.0.0.1"})).status_code == 401
    far = httpx.ASGITransport(app, client=("203.0.113.9", 1234))
    async with httpx.AsyncClient(transport=far, base_url="http://localhost") as stranger:
        assert (await stranger.get("/outbox")).status_code == 401
