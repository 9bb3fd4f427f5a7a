"""Templates that would run a parser's stack into its end are refused in words; the process lives."""

import pytest

from mailbase.errors import Invalid
from mailbase.letters.compile import check_content
from mailbase.letters.content import Content


def mjml(inside):
    return f"<mjml><mj-body>{inside}</mj-body></mjml>"


def block(inside, name="mj-text"):
    return mjml(f"<mj-section><mj-column><{name}>{inside}</{name}></mj-column></mj-section>")


@pytest.mark.parametrize(
    "expression",
    [
        "not " * 20_000 + "1",
        "1" + "+1" * 50_000,
        "subscriber" + ".a" * 50_000,
        "-" * 90_000 + "1",
        "'}}' ~ " + "-" * 90_000 + "1",
        "1" + " is odd" * 20_000,
    ],
)
def test_an_endless_expression_is_refused(expression):
    """A tag of thousands of operators is a template error, closed or not, in whatever field."""
    for content in (
        Content(subject="{{ " + expression + " }}", text="x"),
        Content(subject="x", html="<p>{{ " + expression),
        Content(subject="x", mjml=block("{% if " + expression + " %}x{% endif %}")),
    ):
        with pytest.raises(Invalid) as refused:
            check_content(content)
        assert refused.value.errors[0].code == "template_error"


def test_much_data_in_a_tag_is_fine():
    """A long list of plain values is no deep expression."""
    prices = ", ".join(f"{{'name': 'a-b.c+d', 'price': {number}}}" for number in range(3_000))
    check_content(Content(subject="x", html="{% set prices = [" + prices + "] %}<p>{{ prices | length }}</p>"))


@pytest.mark.parametrize(
    "source",
    [
        mjml("<mj-wrapper>" * 3000 + "</mj-wrapper>" * 3000),
        mjml("<mj-section>" * 3000 + "</mj-section>" * 3000),
        block("<div>" * 30_000 + "</div>" * 30_000),
        mjml("<mj-raw>" + "<b>" * 30_000 + "</b>" * 30_000 + "</mj-raw>"),
        block("<tr><td>" * 20_000 + "</td></tr>" * 20_000, "mj-table"),
    ],
)
def test_bottomless_nesting_is_refused(source):
    """MJML nested without end is a template error that names the place."""
    with pytest.raises(Invalid) as refused:
        check_content(Content(subject="x", mjml=source))
    assert refused.value.errors[0].code == "template_error"
    assert "nested" in refused.value.message


def test_nesting_as_people_write_it_is_fine():
    """Thirty tables in each other, a thousand line breaks and a thousand images are no problem."""
    check_content(
        Content(
            subject="x",
            mjml=block(
                "<div>" * 60 + "<br>" * 1000 + "<img src='https://example.com/a.png' alt='a'>" * 1000 + "</div>" * 60
            ),
        )
    )
