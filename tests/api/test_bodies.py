"""Reading JSON: strict, and everything that is wrong is said at once."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from mailbase.api.bodies import SHAPE, convert, decode
from mailbase.errors import Invalid, Malformed


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    purpose: Annotated[str, Meta(min_length=1, max_length=5)]
    n: Annotated[int, Meta(ge=0, le=9)] | None = None


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    email: Annotated[str, Meta(min_length=3)]
    kind: Literal["one", "two"] = "one"
    inner: Inner | UnsetType = UNSET
    many: list[Inner] = []
    tags: Annotated[list[Annotated[str, Meta(max_length=3)]], Meta(max_length=2)] = []
    open: dict[str, Any] = {}
    limits: dict[str, Annotated[int, Meta(ge=1)]] = {}
    flag: bool = True


class Topic(msgspec.Struct):
    slug: Annotated[str, Meta(pattern="^[a-z]+$", examples=["news"])] | None


def refused(raw: Any) -> tuple[type[Invalid], dict[str, str]]:
    with pytest.raises(Invalid) as caught:
        convert(raw, Outer)
    return type(caught.value), {error.field: error.code for error in caught.value.errors}


def test_all_bad_values_at_once():
    """Every unacceptable value of a body is named by its path, in one refusal."""
    kind, errors = refused(
        {
            "email": "a",
            "kind": "three",
            "inner": {"purpose": "", "n": 10},
            "many": [{"purpose": "x"}, {"purpose": "toolong"}],
            "tags": ["long!"],
            "limits": {"google": 0},
        }
    )
    assert kind is Invalid
    assert errors == {
        "email": "invalid_value",
        "kind": "unknown_value",
        "inner.purpose": "invalid_value",
        "inner.n": "invalid_value",
        "many.1.purpose": "invalid_value",
        "tags.0": "invalid_value",
        "limits.google": "invalid_value",
    }


def test_a_form_that_is_missed_is_shown_by_an_example():
    """Whoever misses a pattern reads an example of it, not the pattern."""
    with pytest.raises(Invalid) as caught:
        convert({"slug": "A B"}, Topic)
    assert [error.message for error in caught.value.errors] == ["This is not in the form that is needed, such as news."]


def test_a_wrong_shape_wins():
    """If one field has the wrong shape the body is malformed, and every wrong shape is named."""
    kind, errors = refused(
        {"emial": 1, "kind": "three", "flag": "true", "inner": {"n": "1", "x": 0}, "many": {}, "tags": [1, "x"]}
    )
    assert kind is Malformed
    assert errors == {
        "emial": "unknown_field",
        "email": "missing_field",
        "flag": "wrong_type",
        "inner.purpose": "missing_field",
        "inner.x": "unknown_field",
        "inner.n": "wrong_type",
        "many": "wrong_type",
        "tags.0": "wrong_type",
    }


@pytest.mark.parametrize("raw", [[], "x", 1, None, True])
def test_a_body_is_an_object(raw: Any):
    """Anything but an object is malformed."""
    assert refused(raw)[0] is Malformed


def test_the_container_counts_too():
    """A list too long is named itself once its items are fine; null is no value where none is offered."""
    assert refused({"email": "abc", "tags": ["a", "b", "c"]}) == (Invalid, {"tags": "invalid_value"})
    assert refused({"email": None}) == (Malformed, {"email": "wrong_type"})
    assert convert({"email": "abc", "inner": {"purpose": "a", "n": None}}, Outer).inner.n is None


def test_nul_is_found_wherever_it_hides():
    """NUL characters are refused in values and names, at any depth, beside whatever else is wrong."""
    assert refused({"email": "a\0b", "open": {"a": [{"b\0": "c\0"}]}})[1].keys() == {
        "email",
        "open.a.0.b\\u0000",
        "open.a.0.b\0",
    }
    assert refused({"email": "", "open": {"a": "\0"}})[1] == {"email": "invalid_value", "open.a": "invalid_value"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b"\xff\xfe",
        b'{"email": "\xff"}',
        b'{"email": "\\ud800"}',
        b"[" * 100_000,
        b'{"email":"abc"} x',
    ],
)
def test_what_is_not_json(body: bytes):
    """Bytes that are not JSON are malformed, whatever they are."""
    with pytest.raises(Malformed):
        decode(body, Outer)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["one", "two", "abc"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["email", "kind", "inner", "many", "tags", "open", "limits", "flag", "purpose", "n", "zzz"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(values)
def test_it_agrees_with_msgspec(raw: Any):
    """What msgspec accepts is accepted (but for NUL), what it refuses is refused with at least one named reason."""
    nul = b"\\u0000" in msgspec.json.encode(raw)
    try:
        plain = msgspec.convert(raw, Outer, strict=True)
    except msgspec.ValidationError:
        kind, errors = refused(raw)
        assert errors
        assert (kind is Malformed) == any(code in SHAPE for code in errors.values())
    else:
        if nul:
            assert refused(raw)[0] is Invalid
        else:
            assert convert(raw, Outer) == plain
