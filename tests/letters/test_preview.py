"""The preview shows the letter as its reader gets it, and warns of what a marketer would regret."""

import pytest

from letters.letters_kit import BASE, TOKENS, person
from mailbase.letters.content import Content
from mailbase.letters.preview import preview


def codes(content, **options):
    return {warning.code for warning in preview(content, None, base_url=BASE, **options).warnings}


GOOD = Content(
    subject="s",
    preheader="p",
    html='<body><img src="x" alt=""><a href="https://a.example">x</a><a href="{{ unsubscribe_url }}">u</a></body>',
    text="t {{ unsubscribe_url }}",
)


def test_a_preview_is_untracked():
    """Links are the sender's own, the way out is real, and there is no pixel."""
    made = preview(
        Content(subject="Hi {{ subscriber.attributes.name }}", html='<body><a href="https://a.example/?a=1&amp;b">x</a></body>'),
        person(name="Ann"), base_url=BASE, postal_address="1 High St", locale="en", tokens=TOKENS,
    )  # fmt: skip
    assert made.subject == "Hi Ann"
    assert 'href="https://a.example/?a=1&amp;b"' in made.html
    assert f"{BASE}/u/{TOKENS.unsubscribe}" in made.html
    assert "/o/" not in made.html
    assert "/l/" not in made.html
    assert "x (https://a.example/?a=1&b)" in made.text
    assert made.size > len(made.html)


def test_a_good_letter_has_no_warnings():
    """A letter with everything in its place is not nagged about."""
    assert codes(GOOD, known_attributes=set()) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"subject": "x" * 71}, "long_subject"),
        ({"preheader": None}, "no_preheader"),
        ({"text": None}, "no_text"),
        ({"html": GOOD.html + "<img src='y'>"}, "image_without_alt"),
        ({"html": GOOD.html + "<a href='http://a.example'>y</a>"}, "insecure_link"),
        ({"html": GOOD.html + "x" * 105_000}, "size"),
        ({"html": "<p>x</p>", "text": "t"}, "no_unsubscribe_link"),
        ({"text": "{{ unsubscribe_url }} {{ subscriber.attributes.foo }}"}, "unknown_attribute"),
    ],
)
def test_each_warning_has_its_cause(change, code):
    """Each warning appears for its own cause alone."""
    given = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__} | change
    assert codes(Content(**given), known_attributes=set()) == {code}
