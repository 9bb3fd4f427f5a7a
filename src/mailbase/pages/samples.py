"""Pages as they are tried and previewed: each with the values it has when it is short, and when it is long."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mailbase.pages.words import Words

Values = Mapping[str, Any]

EMAIL: Final = "a…a@example.com"
_UNTIL: Final = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
_POLICY: Final = "https://example.com/privacy"
_SIGNED: Final = "sample"
_TOPICS: Final = (("bread", "Bread", "Every Saturday, before we open"), ("courses", "Courses", ""))


def samples(name: str, said: Words) -> list[Values]:
    """Return what a page is rendered with, the fullest last."""
    return _MAKERS[name](said)


def _confirm(said: Words) -> list[Values]:
    base = {
        "title": said.confirm.title,
        "brand": "Notes from the bakery",
        "until": None,
        "auto": None,
        "token": _SIGNED,
        "shown": "sample",
    }
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
    return [{**pending, "link": "/p/sample", "link_text": said.unsubscribe.left_back}, pending]


def _error(said: Words) -> list[Values]:
    return [{**_said(said.errors.missing_title, said.errors.missing_text, "note"), "code": ""}]


def _said(title: str, text: str, icon: str) -> dict[str, Any]:
    return {"title": title, "text": text, "icon": icon, "link": None, "link_text": ""}


def _unsubscribe(said: Words) -> list[Values]:
    text = said.unsubscribe.text.format(email=EMAIL)
    return [{"title": said.unsubscribe.title, "text": text, "token": _SIGNED, "preferences": "/p/sample"}]


def _left(said: Words) -> list[Values]:
    words = said.unsubscribe
    reasons = [{"value": "too_many", "text": words.reason_too_many}, {"value": "other", "text": words.reason_other}]
    base = {
        "title": words.left_title,
        "icon": "done",
        "text": words.left_text.format(email=EMAIL),
        "token": _SIGNED,
        "preferences": "/p/sample",
        "reasons": reasons,
    }
    return [{**base, "thanks": True}, {**base, "thanks": False}]


def _preferences(said: Words) -> list[Values]:
    words = said.preferences
    often = (("all", words.often_all), ("weekly", words.often_weekly), ("monthly", words.often_monthly))
    base = {
        "title": words.page_title,
        "who": words.who.format(email=EMAIL),
        "token": _SIGNED,
        "notice": "",
        "good": False,
        "away": True,
        "paused": "",
        "topics": [],
        "often": [{"value": value, "text": text, "chosen": value == "all"} for value, text in often],
        "pauses": [2, 4, 12],
        "wrong_email": "",
        "consents": [],
    }
    consent = {
        "purpose": "newsletter",
        "text": "I want to receive the newsletter.",
        "policy_url": _POLICY,
        "since": words.consents_since.format(date=said.date(_UNTIL)),
        "leaving": True,
    }
    topics = [{"slug": s, "name": n, "description": d, "chosen": s == "bread"} for s, n, d in _TOPICS]
    return [base, {**base, "away": False, "topics": topics, "consents": [consent]}]


def _address(said: Words) -> list[Values]:
    words = said.preferences
    base = {
        "title": words.change_title,
        "text": words.change_text.format(old=EMAIL, new=EMAIL),
        "button": words.change_button,
        "ignore": words.change_ignore,
        "token": _SIGNED,
    }
    return [base]


def _erase(said: Words) -> list[Values]:
    return [{"title": said.preferences.erase_title, "who": EMAIL, "token": _SIGNED, "back": "/p/sample"}]


def _own_data(said: Words) -> list[Values]:
    words = said.preferences
    you = [{"name": "email", "value": "ada@example.com"}, {"name": "status", "value": "active"}]
    base = {
        "title": words.held_title.format(email="ada@example.com"),
        "email": "ada@example.com",
        "as_of": words.held_at.format(date=said.date(_UNTIL, time=True)),
    }
    empty = {"title": words.held_messages, "entries": []}
    return [
        {**base, "sections": [empty]},
        {**base, "sections": [{"title": words.held_subscriber, "entries": [you]}, empty]},
    ]


def _download(said: Words) -> list[Values]:
    words = said.magnet
    text = words.expired_text.format(title="Seven breads for beginners")
    return [{"title": words.expired_title, "text": text, "brand": "Notes from the bakery", "token": _SIGNED}]


def _field(name: str, label: str, kind: str, **more: Any) -> dict[str, Any]:
    plain = {"options": [], "input": "text", "mode": "", "autocomplete": "", "longest": 254, "year": "required"}
    return {"name": name, "label": label, "type": kind, "required": False, "value": "", **plain, **more}


def _entered(*names: str) -> dict[str, Any]:
    blank = dict.fromkeys(names, "")
    return {"values": blank, "errors": blank, "refused": False}


def _form(said: Words) -> list[Values]:
    email = _field("email", said.form.email, "email", required=True, input="email", mode="email", autocomplete="email")
    base = {
        "title": "Notes from the bakery",
        "heading": "Notes from the bakery",
        "intro": "",
        "action": "/f/sample",
        "fields": [email],
        "interests": [],
        "chosen": [],
        "consents": [],
        "versions": "",
        "carried": [],
        "time": "sample",
        "button": said.form.subscribe,
        "note": said.form.note,
        **_entered("email", "first_name", "interests", "consent_newsletter"),
    }
    consent = {
        "purpose": "newsletter",
        "text": "I want to receive the newsletter.",
        "policy_url": _POLICY,
        "required": True,
    }
    full = {
        "intro": "Once a week, what comes out of the oven on Saturday.",
        "fields": [email, _field("first_name", "Name", "text")],
        "interests": [{"slug": s, "name": n, "description": d} for s, n, d in _TOPICS],
        "consents": [consent],
    }
    return [base, {**base, **full}]


def _more(said: Words) -> list[Values]:
    return [
        {
            "title": said.form.more_title,
            "text": said.form.more_text,
            "brand": "Notes from the bakery",
            "action": "/f/sample/more",
            "token": "sample",
            "button": said.form.next,
            "fields": [_field("first_name", "Name", "text"), _field("birthday", "Birthday", "date")],
            **_entered("first_name", "birthday", "birthday.day", "birthday.month", "birthday.year"),
        }
    ]


_MAKERS: Final = {
    "form": _form,
    "more": _more,
    "confirm": _confirm,
    "confirmed": _confirmed,
    "preferences": _preferences,
    "address": _address,
    "erase": _erase,
    "own_data": _own_data,
    "unsubscribe": _unsubscribe,
    "left": _left,
    "download": _download,
    "message": _message,
    "error": _error,
}
PAGES: Final = tuple(_MAKERS)
