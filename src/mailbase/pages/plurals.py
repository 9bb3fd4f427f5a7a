"""Which plural form a whole number takes in a language (Unicode CLDR, plural rules, cardinals)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

Rule = Callable[[int], str]
Forms = tuple[str, ...]


def _one(n: int) -> str:
    return "one" if n == 1 else "other"


def _french(n: int) -> str:
    return "one" if n in {0, 1} else "other"


def _none(_: int) -> str:
    return "other"


def _russian(n: int) -> str:
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if n % 10 in {2, 3, 4} and n % 100 not in {12, 13, 14} else "many"


def _serbian(n: int) -> str:
    form = _russian(n)
    return "other" if form == "many" else form


def _polish(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n % 10 in {2, 3, 4} and n % 100 not in {12, 13, 14} else "many"


def _czech(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n in {2, 3, 4} else "other"


def _lithuanian(n: int) -> str:
    if n % 100 in range(11, 20) or n % 10 == 0:
        return "other"
    return "one" if n % 10 == 1 else "few"


def _latvian(n: int) -> str:
    if n % 10 == 0 or n % 100 in range(11, 20):
        return "zero"
    return "one" if n % 10 == 1 else "other"


def _romanian(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n == 0 or n % 100 in range(1, 20) else "other"


def _slovenian(n: int) -> str:
    return {1: "one", 2: "two", 3: "few", 4: "few"}.get(n % 100, "other")


def _hebrew(n: int) -> str:
    return {1: "one", 2: "two"}.get(n, "other")


def _arabic(n: int) -> str:
    if n < 3:
        return ("zero", "one", "two")[n]
    if n % 100 in range(3, 11):
        return "few"
    return "many" if n % 100 in range(11, 100) else "other"


_DEFAULT: Final[tuple[Rule, Forms]] = (_one, ("one", "other"))
_RULES: Final[Mapping[str, tuple[Rule, Forms]]] = MappingProxyType(
    {
        **dict.fromkeys(("ru", "uk", "be"), (_russian, ("one", "few", "many"))),
        **dict.fromkeys(("sr", "hr", "bs"), (_serbian, ("one", "few", "other"))),
        **dict.fromkeys(("cs", "sk"), (_czech, ("one", "few", "other"))),
        **dict.fromkeys(("fr", "pt", "hy", "hi", "bn", "fa"), (_french, ("one", "other"))),
        **dict.fromkeys(("zh", "ja", "ko", "vi", "th", "id", "ms"), (_none, ("other",))),
        "pl": (_polish, ("one", "few", "many")),
        "lt": (_lithuanian, ("one", "few", "other")),
        "lv": (_latvian, ("zero", "one", "other")),
        "ro": (_romanian, ("one", "few", "other")),
        "sl": (_slovenian, ("one", "two", "few", "other")),
        "he": (_hebrew, ("one", "two", "other")),
        "ar": (_arabic, ("zero", "one", "two", "few", "many", "other")),
    }
)


def forms(language: str) -> Forms:
    """Return the forms whole numbers take in a language."""
    return _RULES.get(language, _DEFAULT)[1]


def form(language: str, n: int) -> str:
    """Return the form of one number."""
    return _RULES.get(language, _DEFAULT)[0](abs(n))
