"""Compiling a campaign: footer, preheader, pixel, links, and mistakes told in the sender's own lines."""

import re

import pytest

from letters.letters_kit import BASE, TOKENS, content, person
from mailbase.errors import Invalid
from mailbase.letters.compile import Filler, check_content, compile_campaign, compile_variables, link_url
from mailbase.letters.content import Content


def compiled(content, **options):
    given = {
        "base_url": BASE, "postal_address": "1 High St\nBath", "locale": "en", "track_opens": True, "track_clicks": True, "utm": None,
    }  # fmt: skip
    return compile_campaign(content, **(given | options))


def html(source, **options):
    return compiled(Content(subject="s", html=source), **options)


def refused(content, **options):
    with pytest.raises(Invalid) as error:
        compiled(content, **options)
    return error.value.errors[0]


@pytest.mark.parametrize(
    ("source", "code", "parts"),
    [
        ("<p>\n  {{ subscriber.email", "template_error", ["line 2"]),
        ("<p>\n\n {{ subscriber.email | shout }}", "template_error", ["line 3", "column 24", "shout"]),
        ("<p>{% if x %}", "template_error", ["line 1"]),
        ("ж\n {{ nobody.name }}", "unknown_variable", ["line 2", "column 5", "nobody"]),
        ("{{ subscriber.age }}", "unknown_variable", ["line 1", "column 4", "subscriber.age"]),
        ("{{ debug() }}", "unknown_variable", ["debug"]),
        ("{{ _letter }}", "unknown_variable", ["_letter"]),
        ("{% include 'x' %}", "template_error", ["include"]),
        ("{{ 'x' * 1000000000 }}", "template_error", ["multiplied"]),
        ("{{ '%0999999999d' | format(1) }}", "template_error", ["format"]),
        ("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "template_error", ["fuel"]),
        ("{{ subscriber.attributes.age + 1 }}", "template_error", ["line 1"]),
        ("{{ subscriber.email is odder }}", "template_error", ["odder"]),
    ],
)
def test_a_template_mistake_names_line_column_and_word(source, code, parts):
    """A mistake is refused with its place in the sender's source and the word that is wrong."""
    error = refused(Content(subject="s", html=source))
    assert (error.field, error.code) == ("html", code)
    for part in parts:
        assert part in error.message, error.message


def test_every_bad_field_is_named_at_once():
    """A mistake in the subject does not hide one in the body."""
    with pytest.raises(Invalid) as error:
        check_content(Content(subject="{{ a", preheader="{{ b }}", html="{{ c }}", text="{{ d"))
    assert [bad.field for bad in error.value.errors] == ["subject", "preheader", "html", "text"]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("<mjml><mj-body>\n<mj-sektion></mj-sektion></mj-body></mjml>", ["line 2, column 1", "mj-sektion"]),
        (
            "<mjml><mj-body>\n<mj-section>\n</mj-column></mj-section></mj-body></mjml>",
            ["line 3, column 1", "</mj-column>"],
        ),
        (
            "<mjml><mj-body><mj-section>\n {{ subscriber.email }}<mj-text>x</mj-body></mjml>",
            ["line 2", "</mj-body>"[2:-1]],
        ),
        ('<mjml><mj-body>\n<mj-section padding="0></mj-section></mj-body></mjml>', ["line 2"]),
        ("<mjml><mj-body>\n<mj-include path='/etc/passwd' /></mj-body></mjml>", ["line 2", "mj-include"]),
        ("<mjml></mjml>", ["mj-body"]),
        ("hello", ["mjml"]),
        ("", ["mjml"]),
        (
            "<mjml><mj-body><mj-section><mj-column><mj-text>fine</mj-text>\n<mj-text><p>open</mj-text></mj-column></mj-section></mj-body></mjml>",
            ["line 2, column 1", "mj-text"],
        ),
        (
            "<mjml><mj-body><mj-section {% if true %}a='b'{% endif %}></mj-section></mj-body></mjml>",
            ["line 1, column 28", "if"],
        ),
        ("<mjml><mj-body><mj-section></mj-section>", ["mj-body", "not closed"]),
    ],
)
def test_an_mjml_mistake_is_told_in_the_senders_lines(source, parts):
    """MJML that does not add up is refused with line, column and element, counted in what the sender wrote."""
    error = refused(Content(subject="s", mjml=source))
    assert (error.field, error.code) == ("mjml", "template_error")
    for part in parts:
        assert part in error.message, error.message


def test_tags_live_anywhere_in_mjml():
    """Control tags between sections, in tables and comparisons, expressions with quotes in attributes: all arrive."""
    source = """<mjml><mj-head><mj-preview>{{ subscriber.attributes.name }}</mj-preview></mj-head><mj-body>
    {% if 1 < 2 and "a" != 'b' %}<mj-section background-color="{{ subscriber.attributes.color | default("#ffffff") }}">
    <mj-column>{% for word in ["<x>", "y"] %}<mj-text>{{ word }} {{ loop.index }}</mj-text>{% endfor %}
    <mj-table>{% for i in subscriber.interests %}<tr><td>{{ i }}</td></tr>{% endfor %}</mj-table>
    <mj-raw>{% raw %}{{ kept }}{% endraw %}</mj-raw></mj-column></mj-section>{% endif %}</mj-body></mjml>"""
    letter = Filler(compiled(Content(subject="s", mjml=source))).fill(person(name="Ann"), TOKENS)
    page = content(letter, "html")
    assert "&lt;x&gt; 1" in page
    assert "y 2" in page
    assert "<td>news</td>" in page
    assert "{{ kept }}" in page
    assert "#ffffff" in page
    assert "mbq" not in page
    assert "{%" not in page


def test_links_are_rewritten_and_nothing_else():
    """Only http(s) links of <a> and <area> are rewritten; every other byte of the HTML stays."""
    source = """<!doctype html><HTML><Body  class='x'><a class=a HREF='https://a.example/?x=1&amp;y=2'>1</a><a href=https://b.example>2</a>
<area href="HTTP://c.example/"><a href="mailto:x@y.example">m</a><a href="tel:+1">t</a><a href="#top">h</a><a href="/rel">r</a>
<a href="{{ unsubscribe_url }}">u</a><a href="{{ preferences_url }}?x=1">p</a><a href="{{ view_url }}">v</a><a name="href=https://no.example">n</a>
<link href="https://css.example/"><img src="https://img.example/" alt='a>b'><!-- <a href="https://comment.example/"> -->
<style>a > b { x: url(https://s.example) }</style><a href="https://a.example/?x=1&y=2">again</a></Body></HTML>"""
    result = html(source, track_opens=False)
    assert result.links == ["https://a.example/?x=1&y=2", "https://b.example", "HTTP://c.example/"]
    back = re.sub(r"\"https://news\.example/l/(\d)/\{\{ _letter \}\}\"", r"<\1>", result.html)
    expected = source.replace("'https://a.example/?x=1&amp;y=2'", "<1>").replace('"https://a.example/?x=1&y=2"', "<1>")
    assert back == expected.replace("=https://b.example", "=<2>").replace('"HTTP://c.example/"', "<3>")


def test_untracked_links_stay():
    """Without click tracking no link is rewritten, and without open tracking there is no pixel."""
    source = '<body><a href="https://a.example/">x</a>{{ unsubscribe_url }}</body>'
    result = html(source, track_clicks=False, track_opens=False)
    assert (result.html, result.links) == (source, [])


def test_utm_is_added_but_not_over_the_senders_own():
    """Utm parameters go before the fragment and leave those already there alone."""
    source = '<a href="https://a.example/?utm_source=own#f">x</a><a href="https://b.example/p">y</a>'
    result = html(source, utm={"source": "mail", "utm_campaign": "a b"})
    assert result.links == [
        "https://a.example/?utm_source=own&utm_campaign=a%20b#f",
        "https://b.example/p?utm_source=mail&utm_campaign=a%20b",
    ]


def test_a_link_with_expressions_is_filled_in_at_the_click():
    """The URL's template is stored; at the click a value is percent-encoded and cannot become another parameter."""
    source = '<a href="https://a.example/{{ subscriber.attributes.city | default("none") }}?e={{ subscriber.email }}&amp;b=1">x</a>'
    result = html(source)
    assert link_url(result.links[0], person(city="Bad Ems/x&admin=1#é\r\n")) == (
        "https://a.example/Bad%20Ems/x%26admin%3D1%23%C3%A9%0A?e=anna%40example.com&b=1"
    )
    assert link_url(result.links[0], person()) == "https://a.example/none?e=anna%40example.com&b=1"
    assert link_url(result.links[0], None) == "https://a.example/none?e=&b=1"


@pytest.mark.parametrize(
    "link",
    ["https://{{ subscriber.attributes.h }}/", "https://a.example{{ subscriber.attributes.h }}", "{{ subscriber.attributes.url }}",
     "https://a.example\\{{ subscriber.attributes.h }}/", "https://x@{{ subscriber.attributes.h }}/"],
)  # fmt: skip
def test_a_tracked_link_cannot_take_its_host_from_a_value(link):
    """A link whose host is filled in would be an open redirect: it is refused while clicks are tracked."""
    assert refused(Content(subject="s", html=f'<a href="{link}">x</a>')).code == "dynamic_link_host"
    html(f'<a href="{link}">x</a>', track_clicks=False)


def test_a_loops_own_variable_leaves_the_link_alone():
    """What only exists while the letter is rendered cannot be known at the click: such a link goes out untracked."""
    result = html('{% for i in subscriber.interests %}<a href="https://a.example/{{ i }}">{{ i }}</a>{% endfor %}')
    assert result.links == []
    assert 'href="https://a.example/{{ i }}"' in result.html


def test_braces_in_links_and_addresses_are_not_templates():
    """Text that looks like a template after entities are resolved, or in the postal address, stays text."""
    result = html(
        "<a href='https://a.example/&#123;&#123;x&#125;&#125;'>&#123;% if %}</a>", postal_address="{{ secret }} {"
    )
    letter = Filler(result).fill(person(), TOKENS)
    assert "{{ secret }} {" in content(letter, "plain")
    assert "{% if %}" in content(letter, "plain")
    assert link_url(result.links[0], person()) == "https://a.example/%7B%7Bx%7D%7D"


@pytest.mark.parametrize(("locale", "word"), [("en", "Unsubscribe"), ("ru-RU", "Отписаться"), (None, "Unsubscribe")])
def test_a_footer_is_added_where_there_is_no_way_out(locale, word):
    """Each part without an unsubscribe link gets one, with the postal address, before </body>."""
    result = compiled(Content(subject="s", html="<body><p>x</p></BODY>", text="x\n"), locale=locale)
    letter = Filler(result).fill(person(), TOKENS)
    for kind in ("html", "plain"):
        assert f"{BASE}/u/{TOKENS.unsubscribe}" in content(letter, kind)
        assert word in content(letter, kind)
        assert "1 High St" in content(letter, kind)
    assert content(letter, "html").rstrip().endswith("</BODY>")


def test_no_second_footer():
    """A letter with its own unsubscribe link keeps its own words; a comment is no link."""
    own = html('<body><a href="{{ unsubscribe_url }}">bye</a></body>')
    assert "You receive" not in own.html
    assert "You receive" not in own.text
    assert "You receive" in html("<body>{# unsubscribe_url #}</body>").html


def test_preheader_and_pixel_have_their_places():
    """The preheader comes right after <body>, hidden and escaped; the pixel right before </body>."""
    page = compiled(Content(subject="s", html="<body>B</body>", preheader="A < {{ subscriber.attributes.x }}")).html
    assert re.match(r'<body><div style="display:none[^>]*>A &lt; \{\{ subscriber.attributes.x \}\}', page)
    assert re.search(r'<img src="https://news.example/o/\{\{ _letter \}\}"[^>]*></body>$', page)


def test_text_alone_has_no_html_part():
    """A letter of text alone goes out as text/plain, its links tracked."""
    result = compiled(Content(subject="s", text="See https://a.example/x, or (https://b.example/y)."))
    letter = Filler(result).fill(person(), TOKENS)
    assert result.links == ["https://a.example/x", "https://b.example/y"]
    assert content(letter, "html") is None
    assert f"See {BASE}/l/1/{TOKENS.letter}, or ({BASE}/l/2/{TOKENS.letter})." in content(letter, "plain")


@pytest.mark.parametrize("bad", [{}, {"html": "x", "mjml": "<mjml/>"}, {"html": "x" * (512 * 1024 + 1)}])
def test_bodies_are_one_and_bounded(bad):
    """No body, two bodies and a body beyond the limit are refused."""
    refused(Content(subject="s", **bad))


def test_variables_are_top_level_names():
    """A transactional letter knows its variables and nothing else, and gets no footer."""
    made = compile_variables(
        Content(subject="Order {{ number }}", html="<p>{{ items[0].title }} {{ name }}</p>"),
        {"number": 7, "items": [{"title": "<T>"}], "name": "é"},
    )
    assert (made.subject, made.html, made.text) == ("Order 7", "<p>&lt;T&gt; é</p>", "<T> é".replace("<T>", "<T>"))
    with pytest.raises(Invalid) as error:
        compile_variables(Content(subject="{{ nope }}", text="x"), {"a": 1})
    assert error.value.errors[0].code == "unknown_variable"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "bad", ["<!--", "<a href='", '<a "', "<a ", "<script>", "<", "<ul><li>", "<td>", "<!--[if", "&#"]
)
def test_pathological_html_is_quick(bad):
    """Unclosed comments, tags, quotes and lists by the thousand do not take quadratic time or memory."""
    html(bad * (200_000 // len(bad)))


def test_an_empty_body_is_no_body():
    """A letter whose only body is blank is refused as one without a body."""
    with pytest.raises(Invalid) as refused:
        check_content(Content(subject="Hello", text=" \n"))

    assert refused.value.code == "missing_body"
