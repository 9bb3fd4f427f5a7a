"""From a page's name and values to its HTML: our template, dressed as the owner wants it, or inside the owner's own.

values ─▶ our template ─▶ content ─┬─ no template of the owner's ─▶ our page
└─ theirs ─▶ holds the forms? ─ yes ─▶ their page
└─ no, or it failed ─▶ our page, a line in the log, a count
"""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from minijinja import Environment, Markup, TemplateError, pass_state

from mailbase import metrics
from mailbase.errors import Invalid
from mailbase.letters import templates
from mailbase.letters.sandbox import SANDBOX, Failure
from mailbase.letters.templates import ENGINE_ERRORS, MAX_RENDERED, show_html
from mailbase.pages import overrides
from mailbase.pages.look import Look
from mailbase.pages.words import Language, Languages, Words, plural

WEB: Final = Path(__file__).parent.parent / "web"
FUEL: Final = 200_000
_PAGE: Final = "page.html"

logger = logging.getLogger(__name__)


def _finish(value: Any) -> Markup:
    return Markup(show_html(value))


def _fill(text: str, **values: Any) -> str:
    """``{{ words.unsubscribe.text | fill(email=email) }}``."""
    return _only_names(text).format(**values)


def _only_names(text: str) -> str:
    # Python's own formatting pads to any width, and walks into whatever it is given.
    if re.search(r"\{(?!\w+\})", text):
        raise ValueError("between braces stands a name, and nothing else")
    return text


def _plural(state: Any, table: Mapping[str, str], n: int, **values: Any) -> str:
    """``{{ words.preferences.weeks | plural(n) }}``, in the page's language."""
    for text in table.values():
        _only_names(text)
    return plural(state.lookup("lang"), table, n, **values)


def _date(state: Any, at: datetime, *, time: bool = False) -> str:
    """``{{ until | date }}``, in the page's language and the time zone it carries."""
    return Words(state.lookup("lang"), state.lookup("words")).date(at, time=time)


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "fill": _fill,
    "plural": pass_state(_plural),  # type: ignore[arg-type]  # its annotation knows no keywords
    "date": pass_state(_date),
}


@cache
def _ours() -> Environment:
    sources = {file.name: file.read_text(encoding="utf-8") for file in (WEB / "templates").glob("*.html")}
    return Environment(
        templates=sources,
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
        finalizer=_finish,
        filters=FILTERS,
    )


_METER: Final = templates.Meter()


@lru_cache(32)
def _theirs(source: str) -> Environment:
    made = _dressed(templates.metered(_finish, _METER))
    made.add_template(_PAGE, source)
    return made


def theirs() -> Environment:
    """Return what an owner's template is rendered by in the sandbox."""
    return _dressed(_finish)


def _dressed(finalizer: Callable[[Any], Any]) -> Environment:
    made = Environment(undefined_behavior="strict", finalizer=finalizer, filters=FILTERS, fuel=FUEL)
    made.remove_global("debug")
    return made


@cache
def asset(name: str) -> bytes:
    """Return a file of the pages."""
    return (WEB / "assets" / name).read_bytes()


@cache
def address(name: str) -> str:
    """Return an asset's path, which changes with its content."""
    return f"/assets/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


def render(name: str, language: Language, values: Mapping[str, Any], look: Look | None, spoken: Languages) -> str:
    """Return a page as its readers get it."""
    common = _common(name, language, values, look, spoken)
    own = (look.overrides.get(name) or look.overrides.get("every")) if look and name not in overrides.BARE else None
    if own is not None:
        content = _ours().render_template(f"{name}.html", **common, bare=True)
        try:
            made = _inside(own, common, content)
        except ENGINE_ERRORS as error:
            _fell_back(name, str(error).partition("\n")[0])
        else:
            if overrides.keeps(made, content) and len(made) <= MAX_RENDERED:
                return made
            _fell_back(name, "it leaves out the page's forms")
    return str(_ours().render_template(f"{name}.html", **common, bare=False))


def _common(
    name: str, language: Language, values: Mapping[str, Any], look: Look | None, spoken: Languages
) -> dict[str, Any]:
    said = spoken.words(language)
    settings = look.account if look else None
    logo = look.logo if look else None
    shop = (settings.name if settings else None) or ""
    common = {
        "brand": "",
        "script": None,
        **values,
        "page": name,
        "lang": said.language,
        "direction": said.direction,
        "words": said.table,
        "stylesheets": [address("pages.css"), *([look.stylesheet] if look and look.stylesheet else [])],
        "logo": {"src": logo.path, "width": logo.shown[0], "height": logo.shown[1]} if logo else None,
        "name": shop,
        "website": (settings.website if settings else None) or "",
        "address": (settings.postal_address if settings else None) or "",
    }
    if common["brand"] == shop:
        common["brand"] = ""
    return common


def _inside(source: str, common: Mapping[str, Any], content: str) -> str:
    pieces = {key: value for key, value in common.items() if key in overrides.PIECES}
    pieces["head"] = Markup(_ours().render_template("head.html", **common))
    pieces["logo"] = Markup(_ours().render_template("logo.html", **common))
    pieces["content"] = Markup(content)
    pieces["form"] = Markup("\n".join(overrides.forms_of(content)))
    if templates.is_light(source, pieces):
        _METER.left = templates.MAX_SHOWN
        return str(_theirs(source).render_template(_PAGE, **pieces))
    return SANDBOX.render(theirs, source, _PAGE, pieces)


_said: Final[set[tuple[str, str]]] = set()


def _fell_back(name: str, why: str) -> None:
    metrics.page_fell_back(name)
    if (name, why) not in _said and len(_said) < 100:  # once, not at every visitor's
        _said.add((name, why))
        logger.warning("the owner's template of the page %s is not shown, ours is: %s", name, why)


def check(template: str, pages: Mapping[str, list[Mapping[str, Any]]], look: Look) -> None:
    """Check an owner's template: it compiles, names only what there is, and shows the forms of each of ``pages``.

    ``pages`` are the pages it is for, by name, each with values to try it with.

    Raises:
        Invalid: ``too_large``, ``template_error``, ``unknown_variable`` or ``missing_form``, ``buried_form`` or ``leads_away``, with line and word.

    """
    if len(template.encode()) > overrides.LARGEST:
        raise Invalid.field("template", "too_large", f"A template has at most {overrides.LARGEST // 1024} kB.")
    templates.check(template, field="template", names=overrides.PIECES, filters=FILTERS)
    for name, samples in pages.items():
        for values in samples:
            _try(template, name, values, look)


def _try(template: str, name: str, values: Mapping[str, Any], look: Look) -> None:
    common = _common(name, "en", values, look, look.languages)
    content = _ours().render_template(f"{name}.html", **common, bare=True)
    try:
        made = _inside(template, common, content)
    except (TemplateError, Failure) as error:
        line = f", line {error.line}" if error.line else ""
        raise Invalid.field("template", "template_error", f"template{line}: {error.detail or error.message}") from None
    except ENGINE_ERRORS as error:
        raise Invalid.field("template", "template_error", f"template: {error}") from None
    if len(made) > MAX_RENDERED:
        raise Invalid.field("template", "too_large", "The page becomes too large.")
    if overrides.leads_away(made):
        raise Invalid.field("template", "leads_away", "A page has no <meta http-equiv>: it could leave by itself.")
    if not overrides.keeps(made, content):
        what = "forms" if overrides.forms_of(content) else "text"
        raise Invalid.field(
            "template",
            "missing_form",
            f"The page {name} would lose its {what}: show {{{{ content }}}}, or at least {{{{ form }}}}.",
        )
    if overrides.buries(made, content):
        raise Invalid.field(
            "template",
            "buried_form",
            f"The page {name} would hold its {'forms' if overrides.forms_of(content) else 'text'} where nobody can use them:"
            " in an element that shows none, in another form, hidden or disabled.",
        )
