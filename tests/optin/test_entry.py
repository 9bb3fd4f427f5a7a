"""Reading what visitors send: any value at all, in any field."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience import limits
from mailbase.audience.form_definition import Field, FormConsent, NewForm
from mailbase.audience.forms import Form, FormInterest
from mailbase.errors import Invalid
from mailbase.optin import entry
from mailbase.optin.letter import Asked, compose
from mailbase.web.words import choose

NOW = datetime(2026, 1, 31, tzinfo=UTC)
FORM = Form(
    id=1,
    key="key",
    name="Everything",
    definition=NewForm(
        name="Everything",
        interest_choice=True,
        fields=[
            Field("city", required=True),
            Field("second", type="email"),
            Field("phone", type="phone"),
            Field("born", type="date"),
            Field("age", type="number"),
            Field("size", type="select", options=["S", "M"]),
            Field("vip", type="checkbox"),
        ],
        consents=[FormConsent("newsletter", "Yes", required=True), FormConsent("partners", "Them, too")],
    ),
    interests=[FormInterest(7, "news", "News", None), FormInterest(9, "sale", "Sale", None)],
    created_at=NOW,
    updated_at=NOW,
)
NAMES = [
    "email",
    "city",
    "second",
    "phone",
    "born",
    "age",
    "size",
    "vip",
    "interests",
    "consent_newsletter",
    "consent_partners",
    "other",
]
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.none(), max_size=2),
)
LIKELY = st.sampled_from(
    ["a@example.org", "London", "+49 30 1234", "1999-12-31", "42", "1,5", "S", "on", "news", "sale", True, 1]
)


def outcome(values):
    """Return the entry, or the names of the refused fields."""
    try:
        return entry.read(FORM, values, locale="ru")
    except Invalid as error:
        return {one.field for one in error.errors}


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(ANYTHING | LIKELY, max_size=4)))
def test_any_values_are_read_or_refused_by_field(values):
    """Either everything is typed and can be kept, or the fields that cannot are named; nothing else is raised."""
    found = outcome(values)
    if isinstance(found, set):
        assert found
        assert found <= set(NAMES) - {"other", "consent_partners"}
        return
    read = found
    assert limits.check_attributes(read.attributes) == []
    assert set(read.interests) <= {7, 9}
    assert "newsletter" in [consent.purpose for consent in read.consents]
    assert read.attributes["city"]
    assert read.attributes.get("size") in {None, "S", "M"}
    assert isinstance(read.attributes.get("age", 0), (int, float))


def test_a_whole_entry_is_typed():
    """Every kind of field once."""
    values = {
        "email": [" Ada@Example.org "],
        "city": [" London "],
        "born": ["1999-12-31"],
        "age": ["-1.5"],
        "size": ["M"],
        "vip": ["on"],
        "interests": ["sale", "news", "sale"],
        "consent_newsletter": ["on"],
    }
    read = entry.read(FORM, values, locale=None)
    assert read.address.email == "Ada@example.org"
    assert read.attributes == {"city": "London", "born": "1999-12-31", "age": -1.5, "size": "M", "vip": True}
    assert read.interests == [7, 9]
    assert [consent.purpose for consent in read.consents] == ["newsletter"]


@given(st.text(max_size=200), st.lists(st.text(max_size=60), max_size=3), st.sampled_from(["en", "ru", "de", None]))
def test_a_letter_holds_any_words(title, interests, locale):
    """Whatever a form is called, the letter has one line of subject, its link in both parts, and no markup of the owner's."""
    url = "https://mail.example.com/c/AbC-_1"
    letter = compose(
        Asked(title=title, confirm_url=url, interests=interests, consents=[title], postal_address=title, locale=locale),
        None,
    )
    assert url in letter.text
    assert letter.html is not None
    assert f'href="{url}"' in letter.html
    assert not set(letter.subject) & set("\r\n\0")
    assert (
        "<script"
        not in compose(Asked(title="<script>", confirm_url=url, interests=["<script>"], locale=locale), None).html
    )


@given(st.text(max_size=100))
def test_any_accept_language_chooses_a_language(header):
    """English or Russian, never an error."""
    assert choose(accept=header) in {"en", "ru"}
