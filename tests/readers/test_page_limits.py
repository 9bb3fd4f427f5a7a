"""An owner's key cannot take the process's memory or time, nor look into it, by a template; whatever is refused is so by its field."""

import pytest

AROUND = "<html lang='en'>{{ head }}<body>%s{{ content }}</body></html>"
SENDER = {"name": "B", "email": "b@news.example.com"}
DOUBLING = "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}"
REFUSED = [
    DOUBLING,
    "{{ '{x:>999999999}' | fill(x=1) }}",
    "{{ '{x.join.__globals__}' | fill(x=content) }}",
    "{{ {'one': '{n.__class__}', 'other': '{n.__class__}'} | plural(1) }}",
]


@pytest.mark.parametrize("source", REFUSED)
async def test_a_page_that_takes_too_much_or_looks_inside_is_refused(client, source):
    """422 for ``template``, when it is saved and when it is tried."""
    for method, path in (("PUT", "/v1/pages/confirm"), ("POST", "/v1/pages/confirm/preview")):
        answer = await client.request(method, path, json={"template": AROUND % source})
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == ["template"]


async def test_a_page_may_say_sentences_and_count(client):
    """Sentences filled in, loops, and what is set for later go on working."""
    source = "{% set n = 2 %}{% for i in range(n) %}<p>{{ words.confirm.until | fill(date='soon') }}</p>{% endfor %}"
    answer = await client.post("/v1/pages/confirm/preview", json={"template": AROUND % source})
    assert answer.status_code == 200, answer.text
    assert answer.text.count("soon") == 2


async def test_a_letter_that_takes_too_much_is_refused_by_its_field(client, db):
    """In a campaign and in a message, by the part it stands in."""
    await db.execute("INSERT INTO domains (name, status) VALUES ('news.example.com', 'verified')")
    letter = {"name": "C", "from": SENDER, "subject": "s", "html": DOUBLING, "audience": {"all": True}}
    message = {"to": "a@example.org", "from": SENDER, "subject": DOUBLING, "text": "t"}
    for path, body, field in (("/v1/campaigns", letter, "html"), ("/v1/messages", message, "subject")):
        answer = await client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [field]
