"""What a form says: its owner's words, else those of the page's language."""

from mailbase.audience.forms import Form
from mailbase.pages.words import Language, words


def title_of(form: Form) -> str:
    """Return the form's title."""
    return form.definition.texts.title or form.name


def button_of(form: Form, language: Language) -> str:
    """Return what stands on its button."""
    return form.definition.texts.button or words(language).form.subscribe


def note_of(form: Form, language: Language) -> str:
    """Return the small print beneath the button."""
    said = words(language).form
    return form.definition.texts.note or (said.note if form.definition.double_opt_in else said.note_at_once)


def pending_words(form: Form, language: Language) -> tuple[str, str]:
    """Return title and text of what every visitor is told after sending the form, whatever their address's history."""
    said = words(language).form
    title, text = (
        (said.pending_title, said.pending_text)
        if form.definition.double_opt_in
        else (said.at_once_title, said.at_once_text)
    )
    return title, form.definition.texts.pending or text


def more_words(form: Form, language: Language) -> tuple[str, str]:
    """Return title and text of the second step."""
    said = words(language).form
    text = said.more_text if form.definition.double_opt_in else said.more_text_at_once
    return form.definition.texts.more_title or said.more_title, text


def said_by(form: Form, language: Language) -> str:
    """Return the words beside the button: what somebody agrees to at a form that asks for no consent in words of its own."""
    return f"{title_of(form)} — {button_of(form, language)}. {note_of(form, language)}"
