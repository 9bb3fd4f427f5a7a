"""The few sentences mailbase itself puts into a campaign's letter, by the letter's language."""

from msgspec import Struct


class Texts(Struct, frozen=True):
    """The footer's words."""

    why: str
    unsubscribe: str
    preferences: str


_ENGLISH = Texts(
    why="You receive this letter because you subscribed to it.",
    unsubscribe="Unsubscribe",
    preferences="Preferences",
)
_RUSSIAN = Texts(
    why="Вы получили это письмо, потому что подписались на рассылку.",
    unsubscribe="Отписаться",
    preferences="Настройки",
)


def texts(locale: str | None) -> Texts:
    """Return the words for a language tag (``ru``, ``ru-RU``, ``en`` …); English is the rest of the world's."""
    return _RUSSIAN if (locale or "").lower().replace("_", "-").split("-")[0] == "ru" else _ENGLISH
