"""What the pages say, for the doors that show them."""

from mailbase.pages.words import Language, Words, choose, plural, words

__all__ = ["Language", "Words", "choose", "plural", "words"]
