"""A form as JSON for the embed script: what is asked, by which rules, and every word it says. The script itself speaks no language."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mailbase.audience import consents, phones
from mailbase.audience.form_definition import Field, FormConsent
from mailbase.audience.forms import Form
from mailbase.optin import field_rules
from mailbase.optin.address_hints import PROVIDERS
from mailbase.optin.words import mistakes
from mailbase.pages.words import Language, words
from mailbase.web.form_words import button_of, more_words, note_of, pending_words, title_of

VERSION_LENGTH: Final = 12
AFTERWARDS: Final = 2
"""The step that is asked once the address was taken."""

# What a browser and its keyboard are told: input type, inputmode.
_INPUTS: Final = {
    "text": ("text", ""),
    "email": ("email", "email"),
    "phone": ("tel", "tel"),
    "date": ("date", ""),
    "number": ("text", "decimal"),
    "hidden": ("hidden", ""),
}
_AUTOCOMPLETE: Final = {
    "name": "name",
    "first_name": "given-name",
    "last_name": "family-name",
    "city": "address-level2",
    "country": "country-name",
    "company": "organization",
    "birthday": "bday",
    "postcode": "postal-code",
    "street": "street-address",
}


def fields_of(form: Form, language: Language, *, home: str | None, step: int | None = None) -> list[dict[str, Any]]:
    """Return the questions in order, of one step or all; the address comes first unless the owner put it elsewhere."""
    own = list(form.definition.fields)
    if not any(field.name == "email" for field in own):
        said = form.definition.texts.email or words(language).form.email
        own.insert(0, Field("email", said, "email", required=True))
    country = phones.home(form.definition.locale or home)
    return [_field(field, language, country) for field in own if step in {None, field.step}]


def _field(field: Field, language: Language, country: str | None) -> dict[str, Any]:
    is_address = field.name == "email"
    kind, mode = _INPUTS.get(field.type, ("", ""))
    if field.type == "date" and field.year == "optional":
        kind = "text"  # a browser's own date wants a year
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
        "step": field.step,
        "year": field.year,
        "value": field.value,
        **field_rules.shown(field, country),
    }


def version_of(consent: FormConsent) -> str:
    """Return what a page sends back to say which words it showed."""
    return consents.version(consent.text, consent.policy_url).hex()[:VERSION_LENGTH]


def consents_of(asked: Sequence[FormConsent]) -> list[dict[str, Any]]:
    """Return the boxes to tick."""
    return [
        {
            "purpose": one.purpose,
            "text": one.text,
            "policy_url": one.policy_url,
            "required": one.required,
            "version": version_of(one),
        }
        for one in asked
    ]


def config_of(form: Form, language: Language, public_url: str, time: str, *, home: str | None = None) -> dict[str, Any]:
    """Return what the embed script needs; ``home`` is the installation's language, which names the country of telephone numbers."""
    definition = form.definition
    action = f"{public_url}/f/{form.key}"
    guarded = definition.protection
    return {
        "key": form.key,
        "name": form.name,
        "locale": language,
        "action": action,
        "display": msgspec.to_builtins(definition.display),
        "fields": fields_of(form, language, home=home),
        "steps": AFTERWARDS if any(field.step == AFTERWARDS for field in definition.fields) else 1,
        "interests": [{"slug": i.slug, "name": i.name, "description": i.description} for i in form.interests],
        "interest_choice": definition.interest_choice,
        "consents": consents_of(definition.consents),
        "redirect": definition.redirects.pending,
        "min_seconds": guarded.min_seconds,
        "pow": None if guarded.proof_of_work == "off" else {"challenge": f"{action}/challenge"},
        "hints": {"domains": PROVIDERS} if guarded.typo_hint else None,
        "texts": _texts(form, language),
        "mistakes": msgspec.structs.asdict(mistakes(language)),
        "_t": time,
    }


def _texts(form: Form, language: Language) -> dict[str, str]:
    own = form.definition.texts
    said = words(language).form
    pending_title, pending = pending_words(form, language)
    more_title, more_text = more_words(form, language)
    return {
        "title": title_of(form),
        "intro": own.intro or "",
        "button": button_of(form, language),
        "note": note_of(form, language),
        "choose": said.choose,
        "pick": said.pick,
        "optional": said.optional,
        "policy": said.policy,
        "day": said.day,
        "month": said.month,
        "year": said.year,
        "sending": said.sending,
        "slow": said.slow,
        "offline": said.offline,
        "rate_limited": said.rate_limited,
        "failed": said.failed,
        "close": said.close,
        "next": own.more_button or said.next,
        "skip": said.skip,
        "more_title": more_title,
        "more_text": more_text,
        "typo": said.typo,
        "pending_title": pending_title,
        "pending": pending,
    }
