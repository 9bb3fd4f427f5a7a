"""What refusals in other languages mean: the same words of a reader and of the sender mean two things."""

from pathlib import Path

import pytest

from mailbase.reports.judge import judge, weigh
from mailbase.reports.tongues import read, spoken_of

FILE = Path(__file__).parent / "tongues.txt"


def collected():
    """Return (language, label, replies) of each line."""
    found, language = [], ""
    for line in FILE.read_text("utf-8").splitlines():
        if line.startswith("= "):
            language = line[2:]
        elif not line.startswith("#"):
            label, _, replies = line.partition(": ")
            found.append((language, label, replies.split(" / ")))
    return found


CASES = collected()


@pytest.mark.parametrize("replies", [pytest.param(said, id=one) for one, label, said in CASES if label == "hard"])
def test_nobody_is_there(replies):
    """A user, mailbox, account or address that is unknown, closed, deleted or expired is hard in any language."""
    assert [one for one in replies if weigh(550, None, one, final=True).cls != "hard"] == []


@pytest.mark.parametrize("replies", [pytest.param(said, id=one) for one, label, said in CASES if label == "soft"])
def test_a_full_mailbox_is_soft(replies):
    """Whatever status stands before it."""
    assert [one for one in replies for status in (None, "5.1.1") if judge(550, status, one).cls != "soft"] == []


@pytest.mark.parametrize("replies", [pytest.param(said, id=one) for one, label, said in CASES if label == "not"])
def test_what_is_the_sender_s_affair_costs_no_reader(replies):
    """Its address, domain, server, message or sending limit, whatever status stands before it."""
    assert [
        one for one in replies for status in (None, "5.0.0", "5.1.1") if judge(550, status, one).cls == "hard"
    ] == []


def test_a_letter_that_speaks_of_the_reader_and_to_the_sender_is_about_the_reader():
    """The words "your message" are in every notice, and blame nobody."""
    for notice in (
        "Ihre Nachricht konnte nicht zugestellt werden: Der Empfänger ist unbekannt.",
        "Votre message n'a pas pu être remis. L'adresse du destinataire est introuvable.",
        "Su mensaje no se ha entregado: la cuenta ha sido cancelada.",
        "Ваше сообщение не доставлено. Пользователь не найден.",
        "您的邮件无法投递，收件人不存在。",
        "Pesan Anda tidak terkirim: alamat tidak ditemukan.",
    ):
        assert judge(550, None, notice).cls == "hard", notice


def test_every_language_has_the_words_it_needs():
    """Without a person and what is wrong with it nothing can be read."""
    assert len(read()) >= 28
    for classes in read().values():
        assert {"person", "sender", "absent", "gone", "refused", "full"} <= classes.keys()
        assert all(classes.values())


def test_a_long_text_says_nothing():
    """A letter speaks of all kinds of things."""
    assert spoken_of("Benutzer unbekannt") == {"invalid_recipient"}
    assert spoken_of("Benutzer unbekannt" + " und so weiter" * 60) == set()
