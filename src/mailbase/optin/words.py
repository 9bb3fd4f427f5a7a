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


class Mistakes(Struct, frozen=True):
    """What is said beside a field, by the code of its mistake."""

    required: str
    invalid_email: str
    invalid_phone: str
    invalid_date: str
    invalid_number: str
    invalid_option: str
    invalid_value: str
    too_long: str
    unknown_interest: str
    consent_required: str
    disposable_address: str
    role_address: str


ENGLISH_MISTAKES: Final = Mistakes(
    required="Please fill this in.",
    invalid_email="This is not an e-mail address we can write to.",
    invalid_phone="This is not a telephone number.",
    invalid_date="Please give a date.",
    invalid_number="Please give a number.",
    invalid_option="Please choose one of the options.",
    invalid_value="This cannot be accepted.",
    too_long="This is too long.",
    unknown_interest="This topic is not on offer.",
    consent_required="We need your consent for this.",
    disposable_address="Please use an address you will still read next week.",
    role_address="Please use your own address, not one of an office.",
)
RUSSIAN_MISTAKES: Final = Mistakes(
    required="Заполните это поле.",
    invalid_email="На такой адрес мы не сможем написать.",
    invalid_phone="Это не похоже на номер телефона.",
    invalid_date="Укажите дату.",
    invalid_number="Укажите число.",
    invalid_option="Выберите один из вариантов.",
    invalid_value="Такое значение не подходит.",
    too_long="Слишком длинно.",
    unknown_interest="Такой темы нет.",
    consent_required="Нам нужно ваше согласие.",
    disposable_address="Укажите адрес, который вы будете читать и через неделю.",
    role_address="Укажите свой личный адрес, а не общий адрес отдела.",
)


def mistakes(locale: str | None) -> Mistakes:
    """Return the sentences for a language tag."""
    return RUSSIAN_MISTAKES if language(locale) == "ru" else ENGLISH_MISTAKES
