"""What the confirmation letter says, in English and Russian; any other language reads English."""

from typing import Final

from msgspec import Struct


class Words(Struct, frozen=True):
    """The standard confirmation letter. ``{title}`` is the form's title."""

    subject: str
    preview: str
    heading: str
    lead: str
    chosen: str
    button: str
    open: str
    agreed: str
    fallback: str
    ignore: str


ENGLISH: Final = Words(
    subject="Please confirm: {title}",
    preview="One click, and you are subscribed.",
    heading="Is this your address?",
    lead="Somebody, hopefully you, asked for our letters to come here. Press the button, and they will.",
    chosen="You chose:",
    button="Yes, subscribe me",
    open="Open this link and press the button on the page:",
    agreed="You agree to this:",
    fallback="The button does not work? Open this address:",
    ignore="You did not ask for this? Then do nothing: without your confirmation we write no more.",
)
RUSSIAN: Final = Words(
    subject="Подтвердите подписку: {title}",
    preview="Одно нажатие, и вы подписаны.",
    heading="Это ваш адрес?",
    lead="Кто-то, надеемся, что вы, попросил присылать сюда наши письма. Нажмите кнопку, и мы начнём.",
    chosen="Вы выбрали:",
    button="Да, подписаться",
    open="Откройте ссылку и нажмите кнопку на странице:",
    agreed="Вы соглашаетесь с этим:",
    fallback="Кнопка не работает? Откройте этот адрес:",
    ignore="Вы об этом не просили? Просто ничего не делайте: без подтверждения мы больше не напишем.",
)


def words(locale: str | None) -> Words:
    """Return the words for a language tag."""
    return RUSSIAN if language(locale) == "ru" else ENGLISH


def language(locale: str | None) -> str:
    """Return ``ru`` or ``en``."""
    return "ru" if (locale or "").lower().replace("_", "-").split("-")[0] == "ru" else "en"
