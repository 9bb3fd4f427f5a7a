"""The pages of a real process: what its log does not know, and what stops its start."""

import re
from pathlib import Path

import httpx

from api_process import KEY, SECRET, Start, free_port, home, ready, start, until
from mailbase.tokens import Tokens

__all__ = ["home", "start"]


def test_no_token_reaches_the_log(start: Start, home: Path):
    """Whatever is asked under a token, found or not, refused or broken, the log holds none of it."""
    port = free_port()
    start(port)
    until(lambda: ready(port), "the API is ready", 60)
    tokens = Tokens((SECRET,))
    doors = {"c": "confirm", "u": "unsubscribe", "p": "preferences", "v": "view", "d": "download", "o": "letter"}
    signed = [tokens.sign(purpose, 1, 2) for purpose in doors.values()]
    paths = [
        f"/{door}/{token}" for door, mine in zip(doors, signed, strict=True) for token in (mine, "not-a-token-of-ours")
    ]
    paths += [f"/l/1/{signed[-1]}", f"/f/{signed[0]}", f"/nowhere/{signed[0]}"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Accept": "text/html"}) as visitor:
        visitor.put(
            "/v1/pages/every",
            json={"template": "{{ content }}{{ words.form[title] | default('') }}"},
            headers={"Authorization": f"Bearer {KEY}"},
        )
        for path in paths:
            answers = visitor.get(path), visitor.post(path, content=b"\xff\xfe")
            assert all(answer.status_code < 500 for answer in answers), path
        for door, token in zip(doors, signed, strict=True):
            assert visitor.post(f"/{door}", data={"token": token}).status_code < 500, door
    log = (home / "api.log").read_text()
    assert not re.findall("|".join(map(re.escape, [*signed, "not-a-token-of-ours"])), log)


def test_a_language_that_cannot_be_used_stops_the_start(start: Start, home: Path):
    """The start ends with one line that names the file and the key."""
    (home / "locales").mkdir()
    (home / "locales" / "de.toml").write_text('[confirm]\ntitel = "x"\n', encoding="utf-8")
    assert start(free_port()).wait(30) == 1
    (line,) = (home / "api.log").read_text().strip().splitlines()
    assert "locales/de.toml: confirm.titel is no key" in line
