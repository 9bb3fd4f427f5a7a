"""What the proof sheet says, in English and Russian; any other language reads English."""

from typing import Final

from msgspec import Struct


class Words(Struct, frozen=True):
    """Headings and labels."""

    title: str
    lead: str
    person: str
    status: str
    number: str
    made: str
    responsible: str
    none: str
    purpose: str
    text: str
    version: str
    policy: str
    given: str
    at: str
    page: str
    source: str
    form: str
    ip: str
    agent: str
    letter: str
    letter_to: str
    subject: str
    sent: str
    reply: str
    confirmed: str
    unconfirmed: str
    withdrawn: str
    standing: str
    how: str
    statuses: dict[str, str]
    """By the subscriber's status."""


ENGLISH: Final = Words(
    title="Proof of consent",
    lead="Everything recorded about what this person agreed to. The record is only ever added to; the words are those that were shown.",
    person="Person",
    status="Status",
    number="Number",
    made="Made at",
    responsible="Responsible",
    none="Nothing is recorded about this person.",
    purpose="Purpose",
    text="The exact words",
    version="Version (SHA-256 of the words and the policy's address)",
    policy="Policy",
    given="Given",
    at="At",
    page="On the page",
    source="Source",
    form="Form",
    ip="From the address",
    agent="With the program",
    letter="Asked to confirm by letter",
    letter_to="To",
    subject="Subject",
    sent="Handed over at",
    reply="Answer of the receiving server",
    confirmed="Confirmed from the mailbox",
    unconfirmed="Not confirmed by a letter.",
    withdrawn="Withdrawn",
    standing="Stands: it has not been withdrawn.",
    how="A confirmation is the press of a button on a page whose link was sent to this address alone. Times are UTC.",
    statuses={name: name for name in ("pending", "active", "unsubscribed", "bounced", "complained", "archived")},
)
RUSSIAN: Final = Words(
    title="Подтверждение согласия",
    lead="Всё, что записано о согласиях этого человека. Записи только добавляются; текст приведён таким, каким его показали.",
    person="Человек",
    status="Состояние",
    number="Номер",
    made="Составлено",
    responsible="Оператор",
    none="О согласиях этого человека ничего не записано.",
    purpose="Цель",
    text="Точный текст",
    version="Версия (SHA-256 текста и адреса политики)",
    policy="Политика",
    given="Дано",
    at="Когда",
    page="На странице",
    source="Источник",
    form="Форма",
    ip="С адреса",
    agent="Программа",
    letter="Запрошено подтверждение письмом",
    letter_to="Кому",
    subject="Тема",
    sent="Передано",
    reply="Ответ принимающего сервера",
    confirmed="Подтверждено из почтового ящика",
    unconfirmed="Письмом не подтверждалось.",
    withdrawn="Отозвано",
    standing="Действует: не отозвано.",
    how="Подтверждение — это нажатие кнопки на странице, ссылка на которую отправлена только на этот адрес. Время указано по UTC.",
    statuses={
        "pending": "ждёт подтверждения",
        "active": "подписан",
        "unsubscribed": "отписался",
        "bounced": "письма не доходят",
        "complained": "пожаловался на письма",
        "archived": "в архиве",
    },
)


def words(locale: str | None) -> Words:
    """Return the words for a language tag."""
    return RUSSIAN if (locale or "").lower().replace("_", "-").split("-")[0] == "ru" else ENGLISH
