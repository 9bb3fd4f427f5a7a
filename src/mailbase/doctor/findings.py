"""Findings: what the doctor says, a line each."""

import ipaddress
from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from mailbase.errors import harmless

Level = Literal["ok", "warning", "wrong"]

ADVICE: Final = "\n         → "


class Finding(Struct, frozen=True, kw_only=True):
    """One thing looked at. ``check`` is a stable word, ``text`` what was seen, ``advice`` what to do about it ("" if nothing)."""

    about: str
    check: str
    level: Level
    text: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The finding for people; what a server said may be in it."""
        return harmless(f"{self.level:<8} {self.about}: {self.text}") + (
            ADVICE + harmless(self.advice) if self.advice else ""
        )


class Report(Struct, frozen=True):
    """Everything that was looked at; ``status`` is the worst of it."""

    status: Level
    findings: list[Finding]


def report(findings: Iterable[Finding]) -> Report:
    """Put the findings together."""
    found = list(findings)
    levels = {one.level for one in found}
    return Report("wrong" if "wrong" in levels else "warning" if "warning" in levels else "ok", found)


class About:
    """Makes findings about one thing."""

    def __init__(self, about: str) -> None:
        self._about = about

    def ok(self, check: str, text: str) -> Finding:
        """All is well."""
        return Finding(about=self._about, check=check, level="ok", text=text)

    def warning(self, check: str, text: str, advice: str) -> Finding:
        """It works, and could be better."""
        return Finding(about=self._about, check=check, level="warning", text=text, advice=advice)

    def wrong(self, check: str, text: str, advice: str) -> Finding:
        """It does not work."""
        return Finding(about=self._about, check=check, level="wrong", text=text, advice=advice)

    def if_real(self, check: str, text: str, advice: str, *, real: bool) -> Finding:
        """Return what is wrong once letters really leave; while they go to the outbox it is a warning."""
        return (self.wrong if real else self.warning)(check, text, advice)


def is_local(host: str) -> bool:
    """Tell whether a name or address means this machine, so that nobody else can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
