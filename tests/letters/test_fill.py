"""A filled letter says what a plain rendering says, and its bytes keep every promise."""

import quopri

import msgspec
import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from letters.letters_kit import BASE, TOKENS, assert_clean, content, parsed, person
from mailbase.errors import Invalid
from mailbase.letters import quoted
from mailbase.letters.compile import Filler, compile_campaign
from mailbase.letters.content import Compiled, Content, Person
from mailbase.letters.preview import render
from mailbase.letters.templates import escape

SCRIPTS = st.sampled_from(["Анна", "安娜・アンナ", "אנה", "آنا", "अन्ना", "Ἄννα", "Zoë", "👩‍👩‍👧 🎉"])
VALUES = st.one_of(
    SCRIPTS,
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=120),
    st.text(alphabet=" .\t\r\n=<&\"'{}%#F rom", max_size=40),
    st.builds(lambda word, times: word * times, SCRIPTS, st.integers(1, 60)),
    st.sampled_from(
        ["", ".", "..\r\n.", "From me", "a  b ", " ", "\n\n", "\r", "=\r\n", "{{ x }}", "x" * 300, "--=_x"]
    ),
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=5), max_size=3),
)
HOLES = """<html><head><title>T</title></head><body><p>.Hello {{ subscriber.attributes.name }}, how is
{{ subscriber.attributes.city | default("your town") }}?  Two  spaces, a tab\tand {{ "{{" }} braces {% raw %}{{ raw }}{% endraw %}
<a href="https://shop.example/?q={{ subscriber.attributes.city }}">shop</a> <a href='{{ unsubscribe_url }}'>leave</a>
{{- subscriber.attributes.name | upper }}{# gone #}{{ subscriber.attributes.city | default('x', true) }}
{{ subscriber.attributes.name | safe }} {{ subscriber.interests }} {{ subscriber.email }}</p></body></html>"""
LOGIC = """<body>{% if subscriber.attributes.name %}.Dear {{ subscriber.attributes.name }}  {%- else -%} nobody {% endif %}
{% for item in [1, subscriber.attributes.city, "<b>"] -%}  <li>{{ loop.index }} {{ item }} {{ item | safe }}</li>{% endfor %}{
{{ view_url }} <a href="https://shop.example/{{ subscriber.attributes.name }}">x</a> {{ unsubscribe_url }}</body>"""
PLAIN = """<body>{% set who %}<b>{{ subscriber.attributes.name }}</b>{% endset %}{{ who }} {% macro m(x) %}<i>{{ x }}</i>
{% endmacro %}{{ m(subscriber.attributes.city) }}{% filter upper %}loud {{ subscriber.attributes.name }}{% endfilter %}
{{ unsubscribe_url }}</body>"""
TEXTS = {
    "holes": "Hello {{ subscriber.attributes.name }}\n{{ subscriber.attributes.city }}\n{{ unsubscribe_url }}\n{{ subscriber.attributes.name }}",
    "logic": "{% if subscriber.attributes.name %}Hi {{ subscriber.attributes.name }}{% endif %} {{ unsubscribe_url }}",
    "plain": "{% set x = subscriber.attributes.name %}{{ x }}{{ unsubscribe_url }}\n\n",
}


def filler(
    html, text=None, subject="Hi {{ subscriber.attributes.name }} from {{ subscriber.attributes.city | upper }}"
):
    compiled = compile_campaign(
        Content(subject=subject, html=html, text=text, preheader="For {{ subscriber.attributes.name }} & co"),
        base_url=BASE,
        postal_address="1 High Street",
        locale="en",
        track_opens=True,
        track_clicks=True,
        utm={"source": "mail"},
    )
    return compiled, Filler(compiled)


FILLERS = {
    **{name: filler(html) for name, html in (("holes", HOLES), ("logic", LOGIC), ("plain", PLAIN))},
    **{f"{name} text": filler(None, text) for name, text in TEXTS.items()},
}


def normal(text):
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


@pytest.mark.parametrize("name", FILLERS)
@settings(max_examples=80, deadline=None)
@given(first=VALUES, second=VALUES)
def test_decoded_parts_equal_a_plain_rendering(name, first, second):
    """Whatever a reader's values are, both parts decode to exactly what MiniJinja renders, and the bytes are clean."""
    compiled, fill = FILLERS[name]
    reader = person(name=first, city=second)
    letter = fill.fill(reader, TOKENS)
    expected = render(compiled, reader, TOKENS)
    assert_clean(letter)
    assert normal(content(letter, "plain")) == normal(expected.text)
    if expected.html is not None:
        assert normal(content(letter, "html")) == normal(expected.html)
    assert letter.subject == expected.subject
    body = Relaxed.canonicalize_body(letter.body)
    assert body == letter.body


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=5), st.booleans())
def test_pieces_join_to_the_joined_text(texts, braces):
    """Pieces of quoted-printable decode to their texts one after another, wherever they are cut."""
    body = b"".join(quoted.piece(text, braces=braces) for text in texts)
    expected = "".join(text.replace("\r\n", "\n").replace("\r", "\n") for text in texts)
    assert quopri.decodestring(body).decode().replace("\r\n", "\n") == expected
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))
    assert not braces or b"{" not in body


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(alphabet="From ab-1.<&=\n", max_size=90),
        st.from_regex(r"(From )?[A-z0-9]+([ -][A-z0-9]+)*", fullmatch=True),
    )
)
def test_the_short_way_for_plain_words_makes_what_the_long_way_makes(text):
    """What is called simple is the same piece as what escaping and encoding make of it, in HTML and in text."""
    found = quoted.simple(text)
    assert found in {None, quoted.piece(text)}
    assert found in {None, quoted.piece(escape(text))}


def test_a_compiled_campaign_survives_storage():
    """What launch stores as bytes fills the same letters in when a worker reads it."""
    compiled, fill = FILLERS["holes"]
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(compiled), type=Compiled)
    reader = person(name="Ann", city="Bath")
    assert Filler(again).fill(reader, TOKENS) == fill.fill(reader, TOKENS)


def test_a_letter_is_the_same_bytes_twice():
    """A retried letter has the same body and boundary as the first attempt."""
    _, fill = FILLERS["logic"]
    assert fill.fill(person(name="Ann"), TOKENS) == fill.fill(person(name="Ann"), TOKENS)


def test_values_are_escaped_in_html_and_only_there():
    """A value with markup is text in HTML and stays as it is in plain text."""
    compiled = compile_campaign(
        Content(subject="s", html="<p>{{ subscriber.attributes.x }}</p>", text="{{ subscriber.attributes.x }}"),
        base_url=BASE, postal_address=None, locale=None, track_opens=False, track_clicks=False, utm=None,
    )  # fmt: skip
    letter = Filler(compiled).fill(person(x='<script>"&'), TOKENS)
    assert "<p>&lt;script&gt;&quot;&amp;</p>" in content(letter, "html")
    assert content(letter, "plain").startswith('<script>"&')


def test_a_value_never_enters_a_header():
    """Line breaks of a value become spaces in the subject."""
    _, fill = FILLERS["holes"]
    letter = fill.fill(person(name="Ann\r\nBcc: x@y.example", city="\n"), TOKENS)
    assert parsed(letter)["Subject"] == "Hi Ann Bcc: x@y.example from"
    assert parsed(letter)["Bcc"] is None


def test_missing_and_null_take_the_default():
    """An attribute that is missing or null takes its default; one that is empty keeps its emptiness unless told."""
    source = '{{ subscriber.attributes.x | default("D") }}/{{ subscriber.attributes.x | default("D", true) }}/{{ subscriber.locale | default("L") }}'
    compiled = Compiled(subject="s", text=source, html=None, links=[], base_url=BASE)
    fill = Filler(compiled)
    nobody = Person(id=1, email="a@b.example")
    assert content(fill.fill(nobody, TOKENS), "plain") == "D/D/L\n"
    assert content(fill.fill(Person(1, "a@b.example", {"x": None}), TOKENS), "plain") == "D/D/L\n"
    assert content(fill.fill(Person(1, "a@b.example", {"x": ""}, locale="de"), TOKENS), "plain") == "/D/de\n"


def test_a_template_that_fails_on_a_value_is_refused_for_that_reader_alone():
    """A reader whose value breaks the template gets an error with a reason; the next reader gets a letter."""
    compiled = Compiled("s", "{{ subscriber.attributes.n + 1 }}", None, [], BASE)
    fill = Filler(compiled)
    with pytest.raises(Invalid) as refused:
        fill.fill(person(n={"a": 1}), TOKENS)
    assert refused.value.code == "template_error"
    assert content(fill.fill(person(n=1), TOKENS), "plain") == "2\n"
