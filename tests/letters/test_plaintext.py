"""The derived text part reads like something a person wrote."""

import pytest

from mailbase.letters.plaintext import from_html, from_rendered
from mailbase.letters.tags import Mask


def text(html):
    mask = Mask(html)
    return mask.show(from_html(mask.hide(html), mask))


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>One</p><p>Two<br>three</p>", "One\n\nTwo\nthree"),
        ("<h1>Head</h1>\n  <p>a   b\n c</p>", "Head\n\na b c"),
        ('<a href="https://a.example/x">Shop</a> now', "Shop (https://a.example/x) now"),
        ('<a href="https://a.example">https://a.example</a>', "https://a.example"),
        ('<a href="https://a.example/">a.example</a>', "https://a.example/"),
        ('<a href="mailto:x@y.example">x@y.example</a>', "x@y.example"),
        ('<a href="mailto:x@y.example">write</a>', "write (x@y.example)"),
        ('<a href="#top">up</a>', "up"),
        ('<a href="https://a.example"><img src="i" alt="Logo"></a>', "Logo (https://a.example)"),
        ('<a href="https://a.example"><img src="i"></a>', "https://a.example"),
        ('<a href="https://a.example"><div>In a block</div></a><p>next</p>', "In a block (https://a.example)\n\nnext"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "- a\n- b\n  - c"),
        ("<ol><li>a<li>b</ol>", "1. a\n2. b"),
        ("<table><tr><td>Tea</td><td>3 €</td></tr><tr><td>Cake</td><td>4 €</td></tr></table>", "Tea  3 €\nCake  4 €"),
        ("<head><title>T</title><style>a{}</style></head><body>x<script>y</script></body>", "x"),
        ('<div style="display: none">hidden<div>deep</div></div>shown', "shown"),
        ("<!--[if mso]><p>Outlook</p><![endif]--><p>x</p>", "x"),
        ("a&nbsp;&zwnj;&#847; &amp; b", "a & b"),
        ("x<hr>y", "x\n\n--------------------\n\ny"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("<b>bold</b>, <i>not</i>.", "bold, not."),
        ("", ""),
        ("{% if a %}<p>x</p>{% endif %}<p>y</p>", "{% if a %}x\n\n{% endif %}y"),
        (
            "<table>{% for i in b %}<tr><td>{{ i }}</td><td>1</td></tr>{% endfor %}</table>",
            "{% for i in b %}{{ i }}  1\n{% endfor %}",
        ),
        ("&#123;&#123; x }}", '{{ "{" }}{ x }}'),
    ],
)
def test_text_is_derived(html, expected):
    """Each construct of HTML has its plain counterpart."""
    assert text(html) == expected


def test_finished_html_holds_no_templates():
    """Braces in a letter that is already rendered are just braces."""
    assert from_rendered("<p>{{ x }}</p><p>{% y %}</p>") == "{{ x }}\n\n{% y %}"
