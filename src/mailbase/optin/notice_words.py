"""What the letters about one's own data say, in English and Russian; any other language reads English."""

from typing import Final

from msgspec import Struct

from mailbase.optin.words import language


class Notice(Struct, frozen=True):
    """One letter. ``{old}`` and ``{new}`` are addresses."""

    subject: str
    heading: str
    lines: tuple[str, ...]
    button: str | None = None
    after: str | None = None

    def about(self, **values: str) -> "Notice":
        """Return the letter with its places filled in."""
        return Notice(
            self.subject, self.heading, tuple(line.format(**values) for line in self.lines), self.button, self.after
        )


class Notices(Struct, frozen=True):
    """All of them."""

    confirm_address: Notice
    """To the new address."""
    address_asked: Notice
    """To the old one, at once."""
    address_changed: Notice
    """To the old one, when it is done."""
    exported: Notice


ENGLISH: Final = Notices(
    confirm_address=Notice(
        subject="Is this your new address?",
        heading="Is this your new address?",
        lines=("Somebody, hopefully you, asked for our letters to {old} to come here instead. Press the button, and they will.",),
        button="Yes, write to me here",
        after="You did not ask for this? Then do nothing: without your answer nothing changes.",
    ),
    address_asked=Notice(
        subject="Your letters shall go to another address",
        heading="Your letters shall go to another address",
        lines=(
            "Somebody, hopefully you, asked for your letters to go to {new}. We have asked there whether that is right; until we have an answer nothing changes.",
        ),
        button="Stop this",
        after="It was you? Then there is nothing to do here; look into the other mailbox.",
    ),
    address_changed=Notice(
        subject="Your letters go to another address now",
        heading="Your letters go to another address now",
        lines=("We write to {new} from now on. Nothing more comes to {old}.", "It was not you? Answer this letter, and we will look into it."),
    ),
    exported=Notice(
        subject="Your data was downloaded",
        heading="Your data was downloaded",
        lines=(
            "Everything we hold about you was downloaded just now, by a link from one of your letters.",
            "It was not you? Then somebody has a letter of yours, perhaps one you passed on. Answer this letter, and we will help.",
        ),
    ),
)  # fmt: skip
RUSSIAN: Final = Notices(
    confirm_address=Notice(
        subject="Это ваш новый адрес?",
        heading="Это ваш новый адрес?",
        lines=("Кто-то, надеемся, что вы, попросил присылать наши письма сюда, а не на {old}. Нажмите кнопку, и мы так и сделаем.",),
        button="Да, пишите мне сюда",
        after="Вы об этом не просили? Просто ничего не делайте: без вашего ответа ничего не изменится.",
    ),
    address_asked=Notice(
        subject="Ваши письма просят присылать на другой адрес",
        heading="Ваши письма просят присылать на другой адрес",
        lines=(
            "Кто-то, надеемся, что вы, попросил присылать ваши письма на {new}. Мы спросили там, верно ли это; пока нет ответа, ничего не изменится.",
        ),
        button="Остановить",
        after="Это были вы? Тогда здесь ничего делать не нужно, загляните в другой ящик.",
    ),
    address_changed=Notice(
        subject="Теперь ваши письма приходят на другой адрес",
        heading="Теперь ваши письма приходят на другой адрес",
        lines=("Теперь мы пишем на {new}. На {old} писем больше не будет.", "Это были не вы? Ответьте на это письмо, и мы разберёмся."),
    ),
    exported=Notice(
        subject="Ваши данные скачаны",
        heading="Ваши данные скачаны",
        lines=(
            "Только что всё, что мы о вас храним, было скачано по ссылке из одного из ваших писем.",
            "Это были не вы? Значит, ваше письмо есть у кого-то ещё: возможно, вы его пересылали. Ответьте на это письмо, и мы поможем.",
        ),
    ),
)  # fmt: skip


def notices(locale: str | None) -> Notices:
    """Return the letters in the language of a tag."""
    return RUSSIAN if language(locale) == "ru" else ENGLISH
