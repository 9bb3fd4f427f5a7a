"""What the letters about one's own data say, from the files of the pages' words."""

from msgspec import Struct

from mailbase.pages.words import spoken


class Notice(Struct, frozen=True):
    """One letter. ``{old}`` and ``{new}`` are addresses; ``title`` is its subject, too."""

    title: str
    lines: tuple[str, ...]
    button: str = ""
    after: str = ""

    def about(self, **values: str) -> "Notice":
        """Return the letter with its places filled in."""
        return Notice(self.title, tuple(line.format(**values) for line in self.lines), self.button, self.after)


class Notices(Struct, frozen=True):
    """All of them."""

    confirm_address: Notice
    """To the new address."""
    address_asked: Notice
    """To the old one, at once."""
    address_changed: Notice
    """To the old one, when it is done."""
    exported: Notice


def notices(locale: str | None) -> Notices:
    """Return the letters in the language of a tag."""
    said = spoken().words(spoken().choose(locale)).notices
    return Notices(
        Notice(said.confirm_title, (said.confirm_text,), said.confirm_button, said.confirm_after),
        Notice(said.asked_title, (said.asked_text,), said.asked_button, said.asked_after),
        Notice(said.changed_title, (said.changed_text, said.changed_wrong)),
        Notice(said.exported_title, (said.exported_text, said.exported_wrong)),
    )
