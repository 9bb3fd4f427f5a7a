"""Denials: whether a relay that will not pass letters on means those letters, or us.

    denied · taken · denied …                                             it means their recipients: they wait, the others go on
    denied · denied · denied …, several domains, nothing taken between    it means us: the way out is stopped, with the relay's words

Many letters to one domain that a relay will not relay to are a pause now and then, and no more.
"""

from typing import Final

from mailbase.sending.outcomes import Outcome

LETTERS: Final = 5
DOMAINS: Final = 3
ANYHOW: Final = 100
"""So many letters are enough whoever they are to."""
TAKEN_IN: Final = frozenset({"data", "content"})
"""Where it has taken the recipient, whatever it says of the letter."""


class Denials:
    """What one worker heard of a way out since it last took a letter's recipient."""

    def __init__(self) -> None:
        self._letters = 0
        self._domains: set[str] = set()

    def heard(self, email: str, outcome: Outcome) -> bool:
        """Note an outcome; return whether the way out is to be stopped for it."""
        if not outcome.denied:
            if self._domains and (outcome.kind == "sent" or (outcome.code and outcome.phase in TAKEN_IN)):
                self._letters = 0
                self._domains.clear()
            return False
        self._letters += 1
        if len(self._domains) < DOMAINS:
            self._domains.add(email.rpartition("@")[2].lower())
        if self._letters < (LETTERS if len(self._domains) == DOMAINS else ANYHOW):
            return False
        # The next stop takes as many again: recipients it does not like, coming back one by one, hold nobody up for long.
        self._letters = 0
        return True
