"""A form as a page, without any script: the hosted form, and its second step."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Response

from mailbase.audience.forms import Form
from mailbase.errors import FieldError
from mailbase.optin.entry import PARTS
from mailbase.pages.words import Language, words
from mailbase.web.common import page
from mailbase.web.form_config import AFTERWARDS, consents_of, fields_of
from mailbase.web.form_words import button_of, more_words, note_of, title_of

Values = Mapping[str, Sequence[Any]]


def form_page(
    form: Form,
    language: Language,
    time: str,
    *,
    values: Values,
    errors: Sequence[FieldError],
    home: str | None = None,
) -> Response[str]:
    """Render the hosted page; with errors it answers 422 and keeps what was entered.

    What a link says in its query (``?source=flyer&utm_campaign=…``, a hidden field's value) comes in ``values`` and is sent along.
    """
    definition = form.definition
    fields = fields_of(form, language, home=home, step=1)
    names = [
        *_names(fields),
        "interests",
        *(f"consent_{consent.purpose}" for consent in definition.consents),
    ]
    versions = [f"{one['purpose']}:{one['version']}" for one in consents_of(definition.consents)]
    carried = {
        name: shown(found)
        for name, found in values.items()
        if name.startswith(("_page", "_source", "_mode", "_trigger", "_utm_"))
    }
    return page(
        "form",
        language,
        status=422 if errors else 200,
        targets=[definition.redirects.pending],
        framed=definition.allowed_origins,
        title=title_of(form),
        brand="",
        heading=title_of(form),
        intro=definition.texts.intro or "",
        action=f"/f/{form.key}",
        fields=fields,
        interests=[{"slug": i.slug, "name": i.name, "description": i.description or ""} for i in form.interests]
        if definition.interest_choice
        else [],
        chosen=[value for value in values.get("interests", ()) if isinstance(value, str)],
        consents=consents_of(definition.consents),
        versions=" ".join(versions),
        carried=[{"name": name[:40], "value": value[:500]} for name, value in carried.items() if value][:12],
        values={name: shown(values.get(name)) for name in names},
        errors=dict.fromkeys(names, "") | {error.field: error.message for error in errors},
        refused=bool(errors),
        time=time,
        button=button_of(form, language),
        note=note_of(form, language),
    )


def more_page(
    form: Form,
    language: Language,
    token: str,
    *,
    values: Values,
    errors: Sequence[FieldError],
    home: str | None = None,
) -> Response[str]:
    """Render the second step: the address is taken, and a few things more are asked."""
    own = form.definition.texts
    title, text = more_words(form, language)
    return page(
        "more",
        language,
        status=422 if errors else 200,
        targets=[form.definition.redirects.pending],
        framed=form.definition.allowed_origins,
        title=title,
        brand=title_of(form),
        text=text,
        refused=bool(errors),
        button=own.more_button or words(language).form.next,
        **asked(
            form,
            language,
            token,
            step=AFTERWARDS,
            action=f"/f/{form.key}/more",
            values=values,
            errors=errors,
            home=home,
        ),
    )


def one_more_page(
    form: Form,
    language: Language,
    token: str,
    *,
    values: Values,
    errors: Sequence[FieldError],
    home: str | None = None,
) -> Response[str]:
    """Render again what is asked after confirming, with what needs another look."""
    said = words(language).form
    return page(
        "more",
        language,
        status=422,
        title=form.definition.texts.one_more or said.one_title,
        brand=title_of(form),
        text=said.one_text,
        refused=True,
        button=said.one_button,
        **asked(
            form, language, token, step=3, action=f"/f/{form.key}/profile", values=values, errors=errors, home=home
        ),
    )


def asked(
    form: Form,
    language: Language,
    token: str,
    *,
    step: int,
    action: str,
    values: Values,
    errors: Sequence[FieldError] = (),
    home: str | None = None,
) -> dict[str, Any]:
    """Return what a page needs that asks a later step's questions."""
    fields = fields_of(form, language, home=home, step=step)
    names = _names(fields)
    return {
        "action": action,
        "token": token,
        "fields": fields,
        "values": {name: shown(values.get(name)) for name in names},
        "errors": dict.fromkeys(names, "") | {error.field: error.message for error in errors},
    }


def _names(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    names: list[str] = []
    for field in fields:
        names.append(field["name"])
        if field["type"] == "date":
            names += [f"{field['name']}.{part}" for part in PARTS]
    return names


def shown(entered: Sequence[Any] | None) -> str:
    """Return what was entered as it is shown again."""
    last = entered[-1] if entered else ""
    return (
        str(last)
        if isinstance(last, (str, int, float)) and not isinstance(last, bool)
        else "on"
        if last is True
        else ""
    )
