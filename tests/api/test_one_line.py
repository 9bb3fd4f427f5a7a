"""A name is one line. Where it would stand in a list, a header or a page, nothing in it breaks out of its place."""

import unicodedata

import httpx
from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience import limits

MINIMAL = {"name": "Minimal", "from": {"name": "M", "email": "m@news.example.com"}, "fields": []}
ENDS = {"Cc", "Zl", "Zp"}


@given(
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.text(st.sampled_from("a\n\r\t\x00\x1b\x85\u2028 "), max_size=5)
)
def test_a_line_has_no_ends_and_no_control_characters(text: str):
    """By Unicode's own categories; prose may have line ends and tabs besides."""
    strange = {char for char in text if unicodedata.category(char) in ENDS}
    assert limits.is_line(text) is not bool(strange)
    assert limits.is_prose(text) is (strange <= set("\t\r\n\x85\u2028\u2029"))


async def test_names_with_line_ends_are_refused_by_their_field(client: httpx.AsyncClient):
    """Everywhere an owner gives a name or a title; descriptions and longer texts may have lines."""
    for path, body, field in (
        ("/v1/interests", {"slug": "x", "name": "a\nb"}, "name"),
        ("/v1/keys", {"name": "a\x1bb", "scopes": ["admin"]}, "name"),
        (
            "/v1/campaigns",
            {
                "name": "a\u2028b",
                "from": {"email": "a@example.com"},
                "subject": "s",
                "text": "t",
                "audience": {"all": True},
            },
            "name",
        ),
        ("/v1/forms", MINIMAL | {"name": "a\rb"}, "name"),
        ("/v1/forms", MINIMAL | {"texts": {"title": "a\nb"}}, "texts.title"),
        ("/v1/forms", MINIMAL | {"texts": {"note": "a\x07b"}}, "texts.note"),
        ("/v1/forms", MINIMAL | {"fields": [{"name": "size", "label": "a\nb"}]}, "fields.0.label"),
        ("/v1/forms", MINIMAL | {"lead_magnet": {"title": "a\nb", "url": "https://a.example/"}}, "lead_magnet.title"),
    ):
        answer = await client.post(path, json=body)
        assert answer.status_code == 422, (path, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], answer.text
    assert (await client.patch("/v1/settings", json={"name": "a\nb"})).status_code == 422
    kept = await client.post("/v1/interests", json={"slug": "x", "name": "News", "description": "one\ntwo"})
    assert kept.json()["description"] == "one\ntwo"
    assert (await client.post("/v1/forms", json=MINIMAL | {"texts": {"note": "one\ntwo"}})).status_code == 201
