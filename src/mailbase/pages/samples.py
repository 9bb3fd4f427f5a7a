"""Pages as they are tried and previewed: each with the values it has when it is short, and when it is long."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mailbase.pages.words import Words

Values = Mapping[str, Any]

EMAIL: Final = "a…a@example.com"
_UNTIL: Final = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
_POLICY: Final = "https://example.com/privacy"
_TOPICS: Final = (("bread", "Bread", "Every Saturday, before we open"), ("courses", "Courses", ""))


def samples(name: str, said: Words) -> list[Values]:
    """Return what a page is rendered with, the fullest last."""
    return _MAKERS[name](said)


def _confirm(said: Words) -> list[Values]:
    base = {"title": said.confirm.title, "brand": "Notes from the bakery", "until": None, "auto": None}
    full = {
        "interests": ["Bread", "Courses"],
        "consents": [{"text": "I want to receive the newsletter.", "policy_url": _POLICY}],
        "until": _UNTIL,
    }
    return [{**base, "interests": [], "consents": []}, {**base, **full}]


def _confirmed(said: Words) -> list[Values]:
    base = {**_said(said.confirm.confirmed_title, said.confirm.confirmed_text, "done"), "magnet": None, "more": None}
    return [base, {**base, "magnet": {"title": "Seven breads for beginners", "url": "/d/sample"}}]


def _message(said: Words) -> list[Values]:
    pending = _said(said.form.pending_title, said.form.pending_text, "letter")
    left = _said(said.unsubscribe.left_title, said.unsubscribe.left_text.format(email=EMAIL), "done")
    return [pending, {**left, "link": "/p/sample", "link_text": said.unsubscribe.left_back}]


def _error(said: Words) -> list[Values]:
    return [{**_said(said.errors.missing_title, said.errors.missing_text, "note"), "code": ""}]


def _said(title: str, text: str, icon: str) -> dict[str, Any]:
    return {"title": title, "text": text, "icon": icon, "link": None, "link_text": ""}


def _unsubscribe(said: Words) -> list[Values]:
    text = said.unsubscribe.text.format(email=EMAIL)
    return [{"title": said.unsubscribe.title, "text": text, "preferences": "/p/sample"}]


def _preferences(said: Words) -> list[Values]:
    base = {
        "title": said.preferences.title,
        "who": said.preferences.who.format(email=EMAIL),
        "notice": "",
        "away": False,
    }
    topics = [{"slug": s, "name": n, "description": d, "chosen": s == "bread"} for s, n, d in _TOPICS]
    return [{**base, "topics": []}, {**base, "topics": topics}]


def _form(said: Words) -> list[Values]:
    email = {
        "name": "email",
        "label": said.form.email,
        "type": "email",
        "required": True,
        "options": [],
        "input": "email",
        "mode": "email",
        "autocomplete": "email",
        "longest": 254,
        "step": 1,
        "year": "required",
        "value": None,
    }
    name = {**email, "name": "first_name", "label": "Name", "type": "text", "input": "text", "required": False}
    base = {
        "title": "Notes from the bakery",
        "heading": "Notes from the bakery",
        "intro": "",
        "action": "/f/sample",
        "fields": [email],
        "interests": [],
        "chosen": [],
        "consents": [],
        "values": {"email": ""},
        "errors": {"email": ""},
        "refused": False,
        "versions": "",
        "carried": [],
        "time": "sample",
        "button": said.form.subscribe,
        "note": said.form.note,
    }
    blank = dict.fromkeys(("email", "first_name", "interests", "consent_newsletter"), "")
    full = {
        "intro": "Once a week, what comes out of the oven on Saturday.",
        "fields": [email, name],
        "interests": [{"slug": s, "name": n, "description": d} for s, n, d in _TOPICS],
        "consents": [
            {
                "purpose": "newsletter",
                "text": "I want to receive the newsletter.",
                "policy_url": _POLICY,
                "required": True,
            }
        ],
        "values": blank,
        "errors": blank,
    }
    return [base, {**base, **full}]


_MAKERS: Final = {
    "form": _form,
    "confirm": _confirm,
    "confirmed": _confirmed,
    "preferences": _preferences,
    "unsubscribe": _unsubscribe,
    "message": _message,
    "error": _error,
}
PAGES: Final = tuple(_MAKERS)
