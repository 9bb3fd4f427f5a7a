"""The confirmation letter: one button, everything chosen, and what to do if it was not you.

The owner may write it in MJML; ``{{ confirm_url }}`` must stand in it. Pure: no database, no network.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from mailbase.audience.form_definition import Confirmation, NewForm
from mailbase.errors import FieldError, Invalid
from mailbase.letters import templates
from mailbase.letters.compile import compile_variables
from mailbase.letters.content import Content, Rendered
from mailbase.optin import frame
from mailbase.optin.frame import Framed
from mailbase.optin.words import letter_language, words

SAMPLE_URL: Final = "https://example.com/c/sample"


class Asked(Struct, frozen=True, kw_only=True):
    """What one confirmation letter asks for."""

    title: str
    confirm_url: str
    interests: Sequence[str] = ()
    consents: Sequence[str] = ()
    postal_address: str | None = None
    accent: str | None = None
    locale: str | None = None


def compose(asked: Asked, own: Confirmation | None) -> Rendered:
    """Return the letter, in the owner's words where there are any.

    Raises:
        Invalid: the owner's template fails on these values.

    """
    said = words(asked.locale)
    own = own or Confirmation()
    subject = own.subject or templates.one_line(said.subject.format(title=asked.title))
    variables: dict[str, Any] = {
        "confirm_url": asked.confirm_url,
        "form_name": asked.title,
        "interests": list(asked.interests),
        "consents": list(asked.consents),
        "postal_address": asked.postal_address or "",
    }
    if own.mjml is not None:
        return compile_variables(
            Content(subject=own.subject or "{{ subject }}", mjml=own.mjml), {**variables, "subject": subject}
        )
    if own.subject is not None:
        subject = templates.render(own.subject, html=False, variables=variables, field="confirmation.subject")
    framed = Framed(
        language=letter_language(asked.locale),
        subject=subject,
        preview=said.preview,
        title=asked.title,
        heading=said.heading,
        lines=(said.lead,),
        url=asked.confirm_url,
        button=said.button,
        open=said.open,
        foot=said.ignore,
        postal_address=asked.postal_address,
        accent=asked.accent,
    )
    chosen = {"interests": list(asked.interests), "consents": list(asked.consents)}
    return frame.compose(framed, "letter", {**chosen, "chosen": said.chosen, "agreed": said.agreed})


def check(form: NewForm) -> None:
    """Refuse a confirmation letter that could not be sent.

    Raises:
        Invalid: a mistake in the template, by field, or ``missing_confirm_url``.

    """
    own = form.confirmation
    if own is None:
        return
    names = {"confirm_url", "form_name", "interests", "consents", "postal_address"}
    errors: list[FieldError] = []
    for name, source in (("subject", own.subject), ("mjml", own.mjml)):
        try:
            if source is not None:
                templates.check(source, field=name, names=names)
        except Invalid as error:
            errors += error.errors
    if own.mjml is not None and not errors:
        if "confirm_url" not in templates.used(own.mjml):
            errors.append(FieldError("mjml", "missing_confirm_url", "the letter needs a link to {{ confirm_url }}"))
        else:
            errors += _try(own)
    if errors:
        found = [FieldError(f"confirmation.{error.field}", error.code, error.message) for error in errors]
        raise Invalid(code=found[0].code, errors=found)


def _try(own: Confirmation) -> Sequence[FieldError]:
    try:
        compose(Asked(title="—", confirm_url=SAMPLE_URL), own)
    except Invalid as error:
        return error.errors
    return ()
