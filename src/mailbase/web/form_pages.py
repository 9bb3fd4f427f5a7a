"""A form as visitors see it: the hosted page, and the same as JSON for the embed script."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Response

from mailbase.audience.form_definition import Field
from mailbase.audience.forms import Form
from mailbase.errors import FieldError
from mailbase.optin.entry import LONGEST_TEXT
from mailbase.web.common import page
from mailbase.web.words import Language, words

# What a browser and its keyboard are told: input type, inputmode.
_INPUTS: Final = {
    "text": ("text", ""),
    "email": ("email", "email"),
    "phone": ("tel", "tel"),
    "date": ("date", ""),
    "number": ("text", "decimal"),
}
_AUTOCOMPLETE: Final = {
    "name": "name",
    "first_name": "given-name",
    "last_name": "family-name",
    "city": "address-level2",
    "country": "country-name",
    "company": "organization",
    "birthday": "bday",
}


def _fields(form: Form, language: Language) -> list[dict[str, Any]]:
    """Return the questions in order; the address comes first unless the owner put it elsewhere."""
    own = list(form.definition.fields)
    if not any(field.name == "email" for field in own):
        own.insert(0, Field("email", form.definition.texts.email or words(language).form.email, "email", required=True))
    return [_field(field, language) for field in own]


def _field(field: Field, language: Language) -> dict[str, Any]:
    is_address = field.name == "email"
    kind, mode = _INPUTS.get(field.type, ("", ""))
    label = field.label or (words(language).form.email if is_address else field.name.replace("_", " ").capitalize())
    auto = {"email": "email", "phone": "tel"}.get(field.type) or _AUTOCOMPLETE.get(field.name, "")
    return {
        "name": field.name,
        "label": label,
        "type": field.type,
        "required": field.required or is_address,
        "options": field.options or [],
        "input": kind,
        "mode": mode,
        "autocomplete": auto,
        "longest": 254 if field.type == "email" else LONGEST_TEXT,
    }


def _title(form: Form) -> str:
    return form.definition.texts.title or form.name


def _button(form: Form, language: Language) -> str:
    return form.definition.texts.button or words(language).form.subscribe


def _note(form: Form, language: Language) -> str:
    said = words(language)
    return form.definition.texts.note or (said.form.note if form.definition.double_opt_in else said.form.note_at_once)


def pending_words(form: Form, language: Language) -> tuple[str, str]:
    """Return title and text of what every visitor is told after sending the form, whatever their address's history."""
    said = words(language)
    title, text = (
        (said.form.pending_title, said.form.pending_text)
        if form.definition.double_opt_in
        else (said.form.at_once_title, said.form.at_once_text)
    )
    return title, form.definition.texts.pending or text


def said_by(form: Form, language: Language) -> str:
    """Return the words beside the button: what somebody agrees to at a form that asks for no consent in words of its own."""
    return f"{_title(form)} — {_button(form, language)}. {_note(form, language)}"


def form_page(
    form: Form, language: Language, time: str, *, values: Mapping[str, Sequence[Any]], errors: Sequence[FieldError]
) -> Response[str]:
    """Render the hosted page; with errors it answers 422 and keeps what was entered."""
    definition = form.definition
    fields = _fields(form, language)
    names = [
        *(field["name"] for field in fields),
        "interests",
        *(f"consent_{consent.purpose}" for consent in definition.consents),
    ]
    entered = {name: _shown(values.get(name)) for name in names}
    wrong = dict.fromkeys(names, "") | {error.field: error.message for error in errors}
    return page(
        "form",
        language,
        status=422 if errors else 200,
        targets=[definition.redirects.pending],
        framed=True,
        title=_title(form),
        brand="",
        heading=_title(form),
        intro=definition.texts.intro or "",
        action=f"/f/{form.key}",
        fields=fields,
        interests=[{"slug": i.slug, "name": i.name, "description": i.description or ""} for i in form.interests]
        if definition.interest_choice
        else [],
        chosen=[value for value in values.get("interests", ()) if isinstance(value, str)],
        consents=[
            {"purpose": c.purpose, "text": c.text, "policy_url": c.policy_url or "", "required": c.required}
            for c in definition.consents
        ],
        values=entered,
        errors=wrong,
        refused=bool(errors),
        time=time,
        button=_button(form, language),
        note=_note(form, language),
    )


def _shown(entered: Sequence[Any] | None) -> str:
    last = entered[-1] if entered else ""
    return str(last) if isinstance(last, (str, int, float)) else ""


def config_of(form: Form, language: Language, public_url: str, time: str) -> dict[str, Any]:
    """Return what the embed script needs, words included: the script itself speaks no language."""
    definition = form.definition
    said = words(language)
    pending_title, pending = pending_words(form, language)
    return {
        "key": form.key,
        "name": form.name,
        "locale": language,
        "action": f"{public_url}/f/{form.key}",
        "display": {"mode": definition.display.mode},
        "fields": _fields(form, language),
        "interests": [{"slug": i.slug, "name": i.name, "description": i.description} for i in form.interests],
        "interest_choice": definition.interest_choice,
        "consents": [
            {"purpose": c.purpose, "text": c.text, "policy_url": c.policy_url, "required": c.required}
            for c in definition.consents
        ],
        "redirect": definition.redirects.pending,
        "min_seconds": definition.protection.min_seconds,
        "texts": {
            "title": _title(form),
            "intro": definition.texts.intro or "",
            "button": _button(form, language),
            "note": _note(form, language),
            "choose": said.form.choose,
            "pick": said.form.pick,
            "optional": said.form.optional,
            "policy": said.form.policy,
            "sending": said.form.sending,
            "failed": said.form.failed,
            "pending_title": pending_title,
            "pending": pending,
        },
        "_t": time,
    }
