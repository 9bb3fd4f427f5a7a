"""Reading what visitors send: any value at all, in any field."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience import limits
from mailbase.audience.form_definition import Field, FormConsent, NewForm
from mailbase.audience.forms import Form, FormInterest
from mailbase.errors import Invalid
from mailbase.optin import entry
from mailbase.optin.letter import Asked, compose
from mailbase.pages.words import choose

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


def answers(fields, values, step):
    """Return what these fields make of the values, or the mistakes by field."""
    form = msgspec.structs.replace(FORM, definition=NewForm(name="Steps", fields=fields))
    try:
        if step == 1:
            return entry.read(form, {"email": ["a@example.org"], **values}, locale="en", home="de").attributes, {}
        return entry.answers(form, values, step=step, locale="en", home="de"), {}
    except Invalid as error:
        return {}, {one.field: one.code for one in error.errors}


BORN = Field("born", type="date", year="optional", step=2)
WHOLE = Field("born", type="date", step=2)
TYPED = [
    (BORN, {"born": "--02-29"}, "--02-29"),
    (BORN, {"born": "1990-02-28"}, "1990-02-28"),
    (BORN, {"born": "--02-30"}, "invalid_date"),
    (WHOLE, {"born": "--02-28"}, "invalid_date"),
    (WHOLE, {"born": "1899-12-31"}, "invalid_date"),
    (WHOLE, {"born": "2101-01-01"}, "invalid_date"),
    (BORN, {"born.day": "9", "born.month": "3", "born.year": ""}, "--03-09"),
    (BORN, {"born.day": "9", "born.month": "3", "born.year": "1990"}, "1990-03-09"),
    (WHOLE, {"born.day": "9", "born.month": "3", "born.year": ""}, "invalid_date"),
    (BORN, {"born.day": "9", "born.month": "", "born.year": ""}, "invalid_date"),
    (BORN, {"born.day": "9", "born.month": "3", "born.year": "90"}, "invalid_date"),
    (BORN, {"born.day": "٩", "born.month": "3"}, "invalid_date"),
    (BORN, {"born": "1990-01-01", "born.day": "9", "born.month": "3"}, "1990-01-01"),
    (BORN, {"born.day": "", "born.month": "", "born.year": ""}, None),
    (Field("n", type="number", required=True, step=2), {"n": "0"}, 0),
    (Field("n", type="number", required=True, step=2), {"n": "-0,5"}, -0.5),
    (Field("n", type="number", step=2), {"n": "1e9"}, "invalid_number"),
    (Field("tel", type="phone", step=2), {"tel": "030 123456"}, "+4930123456"),
    (Field("tel", type="phone", step=2), {"tel": "5"}, "invalid_phone"),
    (Field("ref", type="hidden", value="default"), {}, "default"),
    (Field("ref", type="hidden", value="default"), {"ref": "flyer"}, "flyer"),
    (Field("ref", type="hidden"), {"ref": "two\nlines"}, "invalid_value"),
    (Field("text", step=2), {"text": "\U0001f600" * 501}, "too_long"),
    (Field("text", step=2), {"text": "\U0001f600" * 500}, "\U0001f600" * 500),
    (Field("tick", type="checkbox", required=True, step=2), {}, "required"),
    (Field("tick", type="checkbox", step=2), {}, False),
]


def test_every_type_has_one_rule():
    """Dates with and without a year and in three fields, numbers that are nought, numbers of the form's country, lengths as browsers count."""
    for field, values, expected in TYPED:
        found, wrong = answers([field], {name: [value] for name, value in values.items()}, field.step)
        assert wrong.get(field.name, found.get(field.name)) == expected, (field, values)


@given(
    st.dictionaries(
        st.sampled_from(["born", "born.day", "born.month", "born.year", "text", "tel"]),
        st.lists(ANYTHING | LIKELY, max_size=3),
    )
)
def test_any_answers_of_a_later_step_are_read_or_refused(values):
    """Nothing but a refusal by field is raised, and only that step's fields come out."""
    fields = [BORN, Field("text", step=2), Field("tel", type="phone", step=2), Field("first"), Field("third", step=3)]
    found, wrong = answers(fields, values, 2)
    assert {*found, *wrong} <= {"born", "text", "tel"}
    assert limits.check_attributes(found) == []


VERSIONED = [
    "newsletter:" + "a" * 12,
    {"newsletter": "b" * 64},
    "x" * 5000,
    7,
    None,
    {"newsletter": 7},
    {"a b": "c" * 12},
    "newsletter:zz",
]


@given(st.lists(st.sampled_from(VERSIONED) | ANYTHING, max_size=30))
def test_any_versions_are_read_or_ignored(given):
    """What names a purpose and a version counts, the last one of a purpose; anything else is as if it were not there."""
    values = {"email": ["a@example.org"], "city": ["x"], "consent_newsletter": ["on"], "_consent_versions": given}
    shown = entry.read(FORM, values, locale=None).shown
    assert set(shown.values()) <= {"a" * 12, "b" * 64}


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


NUMBERS = {
    "1,5": 1.5, "1.5": 1.5, "-0,125": -0.125, "1 000": 1000, "1\u00a0000\u202f000": 1000000, "1'000.5": 1000.5, "1.000,5": 1000.5, "1,000.5": 1000.5,
    "1.000.000": 1000000, "1,0000": 1.0, "+42": 42, 1.234: 1.234, 7: 7, 2.0: 2,
    "1,000": None, "1.000": None, "12.345": None, "1,00,000": None, "1.000.00": None, "1 00": None, "1 000 00": None, 1e300: None, 10**400: None,
}  # fmt: skip


def test_a_number_is_never_taken_for_another():
    """Thousands may stand apart where it is plain which sign parts what; a thousand that may be one is refused."""
    for text, meant in NUMBERS.items():
        values = {"email": ["a@example.org"], "city": ["x"], "consent_newsletter": ["on"], "age": [text]}
        found = outcome(values)
        assert (found if isinstance(found, set) else found.attributes["age"]) == (
            {"age"} if meant is None else meant
        ), text
