"""What the public pages say, in English and Russian; any other language reads English."""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

Language = Literal["en", "ru"]


class Words(Struct, frozen=True):
    """One language's sentences; ``{…}`` are filled in by the page."""

    email: str
    subscribe: str
    note: str
    note_at_once: str
    choose: str
    pick: str
    optional: str
    policy: str
    mistakes: str
    pending_title: str
    pending_text: str
    at_once_title: str
    at_once_text: str
    confirm_title: str
    confirm_text: str
    confirm_chosen: str
    confirm_agreed: str
    confirm_button: str
    confirm_ignore: str
    confirmed_title: str
    confirmed_text: str
    used_title: str
    used_text: str
    gone_title: str
    gone_text: str
    missing_title: str
    missing_text: str
    slow_title: str
    slow_text: str
    wrong_title: str
    wrong_text: str
    foreign_title: str
    foreign_text: str
    leave_title: str
    leave_text: str
    leave_button: str
    leave_instead: str
    left_title: str
    left_text: str
    left_back: str
    preferences_title: str
    preferences_for: str
    preferences_none: str
    preferences_save: str
    preferences_saved: str
    preferences_asked: str
    preferences_left: str
    preferences_return: str
    everything_title: str
    everything_text: str
    everything_button: str
    sending: str
    failed: str


ENGLISH: Final = Words(
    email="E-mail address",
    subscribe="Subscribe",
    note="We send you a letter to confirm. You can leave with one click at any time.",
    note_at_once="You can leave with one click at any time.",
    choose="What would you like to read?",
    pick="Please choose",
    optional="optional",
    policy="Privacy policy",
    mistakes="Something is missing. Please look at the marked fields.",
    pending_title="Look into your mailbox",
    pending_text="We have sent you a letter. Press the button in it, and you are subscribed. Nothing there? Look into the spam folder, too.",
    at_once_title="Thank you",
    at_once_text="Your choice has reached us. Should we need your confirmation, you find a letter from us in your mailbox.",
    confirm_title="One last click",
    confirm_text="Confirm that this is your address, and we will write to you.",
    confirm_chosen="You chose",
    confirm_agreed="You agree to this",
    confirm_button="Yes, subscribe me",
    confirm_ignore="You did not ask for this? Just close the page, and nothing happens.",
    confirmed_title="You are subscribed",
    confirmed_text="Thank you. Your address is confirmed; the next letter comes to you.",
    used_title="This link has done its work",
    used_text="You have left us since. To come back, please use the form once more.",
    gone_title="This link is no longer valid",
    gone_text="Its time is over. Please subscribe once more, and we will send you a new one.",
    missing_title="There is nothing here",
    missing_text="The address is incomplete, or it changed on its way. Please open the link in the letter once more.",
    slow_title="A little slower, please",
    slow_text="Too many tries came from your network. Please try again in {seconds} seconds.",
    wrong_title="That did not work",
    wrong_text="We could not read what was sent. Please go back and try once more.",
    foreign_title="Not from this page",
    foreign_text="This form may not be used from the page you came from.",
    leave_title="Leave us?",
    leave_text="{email} will get no more letters from us.",
    leave_button="Unsubscribe",
    leave_instead="Choose topics instead",
    left_title="You have left",
    left_text="We will not write to {email} any more.",
    left_back="Changed your mind? Choose what you would like to read.",
    preferences_title="What would you like to read?",
    preferences_for="for {email}",
    preferences_none="There are no topics to choose from.",
    preferences_save="Save",
    preferences_saved="Saved.",
    preferences_asked="We have sent you a letter. Press the button in it, and we will write to you again.",
    preferences_left="You get no letters from us at present. Choose topics and save: we send you a letter to confirm.",
    preferences_return="Subscribe again",
    everything_title="Leave everything",
    everything_text="One click, and we write no more.",
    everything_button="Unsubscribe from everything",
    sending="One moment…",
    failed="That did not work. Please try again.",
)
RUSSIAN: Final = Words(
    email="Адрес эл. почты",
    subscribe="Подписаться",
    note="Мы пришлём письмо для подтверждения. Отписаться можно в любой момент одним нажатием.",
    note_at_once="Отписаться можно в любой момент одним нажатием.",
    choose="О чём вам интересно читать?",
    pick="Выберите",
    optional="необязательно",
    policy="Политика конфиденциальности",
    mistakes="Чего-то не хватает. Посмотрите на отмеченные поля.",
    pending_title="Загляните в почту",
    pending_text="Мы отправили вам письмо. Нажмите в нём кнопку, и вы подписаны. Письма нет? Проверьте папку «Спам».",
    at_once_title="Спасибо",
    at_once_text="Мы получили ваш выбор. Если понадобится подтверждение, вы найдёте в почте письмо от нас.",
    confirm_title="Остался один шаг",
    confirm_text="Подтвердите, что это ваш адрес, и мы начнём вам писать.",
    confirm_chosen="Вы выбрали",
    confirm_agreed="Вы соглашаетесь с этим",
    confirm_button="Да, подписаться",
    confirm_ignore="Вы об этом не просили? Просто закройте страницу, ничего не произойдёт.",
    confirmed_title="Вы подписаны",
    confirmed_text="Спасибо. Адрес подтверждён, следующее письмо придёт и вам.",
    used_title="Эта ссылка уже сработала",
    used_text="С тех пор вы отписались. Чтобы вернуться, заполните форму ещё раз.",
    gone_title="Ссылка больше не действует",
    gone_text="Её срок истёк. Подпишитесь ещё раз, и мы пришлём новую.",
    missing_title="Здесь ничего нет",
    missing_text="Адрес неполон или изменился по дороге. Откройте ссылку из письма ещё раз.",
    slow_title="Чуть помедленнее",
    slow_text="Из вашей сети было слишком много попыток. Попробуйте снова через {seconds} с.",
    wrong_title="Не получилось",
    wrong_text="Мы не смогли прочитать отправленное. Вернитесь и попробуйте ещё раз.",
    foreign_title="Не с этой страницы",
    foreign_text="Этой формой нельзя пользоваться со страницы, с которой вы пришли.",
    leave_title="Отписаться?",
    leave_text="На {email} больше не придёт ни одного нашего письма.",
    leave_button="Отписаться",
    leave_instead="Лучше выбрать темы",
    left_title="Вы отписались",
    left_text="Мы больше не будем писать на {email}.",
    left_back="Передумали? Выберите, о чём хотите читать.",
    preferences_title="О чём вам интересно читать?",
    preferences_for="для {email}",
    preferences_none="Пока нет тем, из которых можно выбрать.",
    preferences_save="Сохранить",
    preferences_saved="Сохранено.",
    preferences_asked="Мы отправили вам письмо. Нажмите в нём кнопку, и мы снова начнём писать.",
    preferences_left="Сейчас вы не получаете наших писем. Выберите темы и сохраните: мы пришлём письмо для подтверждения.",
    preferences_return="Подписаться снова",
    everything_title="Отписаться от всего",
    everything_text="Одно нажатие, и мы больше не пишем.",
    everything_button="Отписаться от всех писем",
    sending="Секунду…",
    failed="Не получилось. Попробуйте ещё раз.",
)


def words(language: Language) -> Words:
    """Return the sentences of a language."""
    return RUSSIAN if language == "ru" else ENGLISH


def choose(*locales: str | None, accept: str = "", default: str | None = None) -> Language:
    """Return the first of these language tags that is given, else what ``Accept-Language`` likes best, else the default's."""
    for locale in locales:
        if locale:
            return "ru" if _primary(locale) == "ru" else "en"
    for tag in _liked(accept):
        primary = _primary(tag)
        if primary == "ru":
            return "ru"
        if primary == "en":
            return "en"
    return "ru" if _primary(default or "") == "ru" else "en"


def _primary(tag: str) -> str:
    return tag.strip().lower().replace("_", "-").split("-")[0]


def _liked(accept: str) -> Sequence[str]:
    found: list[tuple[float, str]] = []
    for item in accept[:500].split(","):
        tag, _, weight = item.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        if tag.strip() and quality > 0:
            found.append((-quality, tag))
    return [tag for _, tag in sorted(found, key=lambda pair: pair[0])]
