"""No template takes more than a little memory and time of the process that has it rendered."""

import resource
import time

import pytest

from letters.letters_kit import TOKENS
from mailbase.errors import Invalid
from mailbase.letters import plain, templates
from mailbase.letters.compile import Filler
from mailbase.letters.content import Compiled, Person

BOMBS = {
    "doubling": "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}",
    "a method": "{{ '{:>1000000000}'.format(1) | length }}",
    "long rows": "{{ [1] | batch(1000000000, 'x') | list | length }}",
    "itself": "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}",
    "much text": "{% for i in range(9999) %}" + "text" * 5000 + "{% endfor %}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS.keys())
def test_a_template_that_would_fill_the_memory_is_refused_by_its_field(source: str) -> None:
    """What grows without end (or would end the process) is refused, and this process has grown by next to nothing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Invalid, match=r"too much memory|larger than|more than") as refused:
        templates.render(source, html=True, variables={}, field="html")
    assert [error.field for error in refused.value.errors] == ["html"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_template_that_would_go_on_for_minutes_is_ended() -> None:
    """Time counts too: steps that each take long are no way around the limit of steps."""
    source = "{% for i in range(100000) %}{{ range(100000) | sort | length }}{% endfor %}"
    began = time.process_time()
    with pytest.raises(Invalid, match="too much memory or time"):
        templates.render(source, html=False, variables={})
    assert time.process_time() - began < 1, "it ran in this process"


@pytest.mark.parametrize(
    ("inner", "harmless"),
    [
        ("subscriber.attributes.city | default('there') | title", True),
        ("a ~ ' ' ~ b", True),
        ("if (a or b) and not (c is defined) and c is not divisibleby(3)", True),
        ("tags | join(', ')", True),
        ("tags | join(other)", False),
        ("a * 1.2 + 0.5", True),
        ("a * 2", True),
        ("a * 9 * 9", False),
        ("a * 1000", False),
        ("a * b", False),
        ("a ** 9", False),
        ("range(100)", False),
        ("a.upper()", False),
        ("(a)(b)", False),
        ("a.is (b)", False),
        ("a | replace('x', b)", False),
        ("a | map('upper')", False),
        ("{'a': b}", False),
        ("for a in b recursive", False),
        (" ~ ".join("a" * 30), False),
    ],
)
def test_what_may_run_here_is_told_by_its_words(inner: str, harmless: bool) -> None:
    """Nothing that multiplies, calls or keeps is taken for harmless."""
    assert plain.is_harmless(inner) is harmless


def test_a_letter_filled_in_here_cannot_grow_either() -> None:
    """Loops within loops over one person's lists, and a long value many times over, end at the limit."""
    person = Person(id=1, email="a@example.com", attributes={"list": ["x"] * 4000, "long": "y" * 16000})
    loops = (
        "{% for a in subscriber.attributes.list %}{% for b in subscriber.attributes.list %}text{% endfor %}{% endfor %}"
    )
    text = "{% for a in subscriber.attributes.list %}{{ subscriber.attributes.long }}{% endfor %}"
    for source in (loops.replace("text", "text" * 1000), text, "{{ subscriber.attributes.long }}," * 3000):
        letter = Filler(Compiled(subject="", text=source, html=None, links=[], base_url="https://a.example"))
        with pytest.raises(Invalid, match=r"too much memory|larger than"):
            letter.fill(person, TOKENS)
