"""Pieces and masks understand a template exactly as MiniJinja does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letters.letters_kit import person
from mailbase.errors import Invalid
from mailbase.letters import templates
from mailbase.letters.tags import Mask, literal, split

FRAGMENTS = st.sampled_from(
    [
        "text", " ", "\n", "  \n ", "{", "}", "%", "#", "ж", "{ {", "}}", "%}", "<a href='x'>", "\r\n", "{{ name }}", "{{- name -}}",
        "{{+ name +}}", "{{ '}}' }}", '{{ "%}{{" }}', "{{ {'a': {'b': name}}.a.b }}", "{# note #}", "{#- note -#}", "{# {{ x }} #}",
        "{% raw %}{{ raw }}{%- endraw -%}", "{%- raw -%} {% x %} {% endraw %}", "{% if name %}yes{% endif %}",
        "{%- if name -%} yes {%- else -%} no {%- endif -%}", "{%+ if name +%} a {% endif %}", "{% for x in [1, 2] %}{{ x }},{% endfor %}",
        "{{ name|default('{%') }}", "{{ [name, 'b']|join(\"'\") }}", "{{ 'it\\'s' }}",
    ],
)  # fmt: skip
SOURCES = st.lists(FRAGMENTS, max_size=8).map("".join)
VARIABLES = {"name": "<Ann>"}


def rendered(source):
    return templates.render(source, html=True, variables=VARIABLES)


@settings(max_examples=500, deadline=None)
@given(SOURCES)
def test_a_mask_changes_nothing(source):
    """A template that is hidden and shown again renders to the same text."""
    try:
        expected = rendered(source)
    except Invalid:
        return
    mask = Mask(source)
    hidden = mask.hide(source)
    assert "{{" not in hidden
    assert "{%" not in hidden
    assert rendered(mask.show(hidden)) == expected


@given(st.text(alphabet="{}%# x\n'\"-", max_size=30))
def test_a_literal_renders_to_itself(text):
    """Any text, however it looks, can be put into a template and comes out as it was."""
    assert templates.render(literal(text), html=False, variables={}) == text


@given(st.text(alphabet="{}%#-+'\"\\ raw", max_size=60))
def test_nothing_makes_the_cutter_fail(source):
    """Not even a template MiniJinja would refuse makes the cutter raise or loop."""
    assert isinstance(split(source), list)


def test_a_mask_never_meets_its_own_words():
    """A source that holds what looks like a mask gets another one."""
    assert Mask("mbq0xe0z").prefix != "mbq0x"


def test_offsets_lead_back_to_the_source():
    """An offset in hidden text is found again in what the sender wrote."""
    source = "ab {{ a_long_expression }} cd {% if x %}ef{% endif %}"
    mask = Mask(source)
    hidden = mask.hide(source)
    assert mask.origin(hidden.index("ef")) == source.index("ef")
    assert mask.origin(hidden.index(" cd")) == source.index(" cd")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "true"),
        (3, "3"),
        (2.0, "2"),
        (2.5, "2.5"),
        (["a", None, 1], "a, , 1"),
        ({"a": 1}, '{"a":1}'),
        ("a\r\nb", "a\nb"),
    ],
)
def test_values_read_like_words(value, expected):
    """Nulls, truths, numbers and lists read as a person would write them."""
    assert templates.show(value) == expected
    assert (
        templates.render(
            "{{ subscriber.attributes.x }}", html=False, variables={"subscriber": templates.subscriber(person(x=value))}
        )
        == expected
    )
