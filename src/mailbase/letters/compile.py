"""A campaign is compiled once: MJML rendered, preheader, footer and pixel in place, links numbered and rewritten.

user's templates ─check─▶ MJML ─▶ HTML ─▶ + preheader, footer ─┬▶ links ─▶ + pixel ─▶ Compiled.html
                                                              └▶ text derived (or given, + footer) ─▶ Compiled.text
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from mailbase.errors import FieldError, Invalid
from mailbase.letters import mjml, plaintext, templates
from mailbase.letters.content import Compiled, Content, Person, Rendered
from mailbase.letters.fill import Filler
from mailbase.letters.links import TRAP, Links, link_url
from mailbase.letters.tags import Mask, literal
from mailbase.letters.texts import texts

__all__ = ["Compiled", "Filler", "check_content", "compile_campaign", "compile_variables", "link_url", "untracked"]

_BODY = re.compile(r"<body\b(?:[^>\"']|\"[^\"]*\"|'[^']*')*+>", re.IGNORECASE)
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_HTML_END = re.compile(r"</html\s*>", re.IGNORECASE)
_SHAPE = {"subscriber": templates.SUBSCRIBER_KEYS}
_FIELDS = ("subject", "preheader", "mjml", "html", "text")
# Keeps the first words of the letter out of the inbox's preview line, behind a short preheader.
_FILLER = "&#847;&zwnj;&nbsp;" * 24


class Parts(Struct):
    """Both bodies with the tags hidden, before links are rewritten."""

    html: str | None
    text: str
    mask: Mask


def check_content(content: Content, *, track_clicks: bool = True) -> None:
    """Refuse content that could not be sent, as early as it is written.

    Raises:
        Invalid: every bad field of the content with line, column and word.
    """
    compile_campaign(
        content,
        base_url="https://example.invalid",
        postal_address=None,
        locale=None,
        track_opens=True,
        track_clicks=track_clicks,
        utm=None,
    )


def compile_campaign(
    content: Content,
    *,
    base_url: str,
    postal_address: str | None,
    locale: str | None,
    track_opens: bool,
    track_clicks: bool,
    utm: Mapping[str, str] | None,
    trap: bool = False,
) -> Compiled:
    """Compile a campaign's content; with ``trap`` and tracked clicks the page has a link that only machines find.

    Raises:
        Invalid: ``template_error``, ``unknown_variable``, ``dynamic_link_host``, ``too_large`` or ``missing_body``.
    """
    base_url = base_url.rstrip("/")
    parts = _campaign_parts(content, postal_address=postal_address, locale=locale)
    links = Links(parts.mask, base_url=literal(base_url), track=track_clicks, utm=utm)
    html = None
    if parts.html is not None:
        html = links.html(parts.html)
        if trap and track_clicks:
            hidden = f'<a href="{templates.escape(base_url)}/l/{TRAP}/{{{{ {templates.LETTER} }}}}" aria-hidden="true" tabindex="-1" style="display:none"></a>'
            html = _before_end(html, parts.mask.hide(hidden))
        if track_opens:
            pixel = f'<img src="{templates.escape(base_url)}/o/{{{{ {templates.LETTER} }}}}" width="1" height="1" alt="" border="0" style="display:block;width:1px;height:1px;border:0">'
            html = _before_end(html, parts.mask.hide(pixel))
        html = parts.mask.show(html)
    text = parts.mask.show(links.text(parts.text))
    compiled = Compiled(
        subject=content.subject,
        text=text,
        html=html,
        links=links.urls,
        base_url=base_url,
    )
    _try(content, compiled)
    return compiled


def untracked(content: Content, *, postal_address: str | None, locale: str | None) -> Compiled:
    """Return the letter as the sender wrote it: footer in place, links their own, no pixel."""
    parts = _campaign_parts(content, postal_address=postal_address, locale=locale)
    html = None if parts.html is None else parts.mask.show(parts.html)
    return Compiled(subject=content.subject, text=parts.mask.show(parts.text), html=html, links=[], base_url="")


def compile_variables(content: Content, variables: Mapping[str, Any]) -> Rendered:
    """Render a transactional or confirmation letter: names at the top level, no subscriber, no tracking, no footer.

    Raises:
        Invalid: as ``compile_campaign``; what fails only with these values too.
    """
    values = dict(variables)
    if not all(name.isidentifier() and not name.startswith("_") and name != "self" for name in values):
        raise Invalid.field("variables", "invalid", "a variable's name is a word that does not begin with “_”")
    _check(content, names=set(values), shape={})
    parts = _parts(content, footer=None)
    known = {name: value for name, value in values.items() if value is not None}
    html = None
    if parts.html is not None:
        field = "mjml" if content.mjml is not None else "html"
        html = templates.render(parts.mask.show(parts.html), html=True, variables=known, field=field)
    return Rendered(
        subject=templates.one_line(templates.render(content.subject, html=False, variables=known, field="subject")),
        text=templates.render(parts.mask.show(parts.text), html=False, variables=known, field="text"),
        html=html,
    )


def _check(content: Content, *, names: set[str], shape: dict[str, frozenset[str]]) -> None:
    if content.mjml is not None and content.html is not None:
        raise Invalid.field("html", "invalid", "give mjml or html, not both")
    if content.mjml is None and not (content.html or "").strip() and not (content.text or "").strip():
        raise Invalid.field("html", "missing_body", "a letter needs mjml, html or text")
    errors: list[FieldError] = []
    for name in _FIELDS:
        source = getattr(content, name)
        if source is None:
            continue
        try:
            templates.check(source, field=name, names=names, shape=shape)
        except Invalid as error:
            errors += error.errors
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)


def _campaign_parts(content: Content, *, postal_address: str | None, locale: str | None) -> Parts:
    _check(content, names=set(templates.CAMPAIGN_NAMES), shape=_SHAPE)
    return _parts(content, footer=(postal_address, locale))


def _parts(content: Content, *, footer: tuple[str | None, str | None] | None) -> Parts:
    mask = Mask(content.mjml, content.html, content.text, content.preheader, footer[0] if footer else None)
    html = None
    if content.mjml is not None:
        html = mjml.to_html(content.mjml, mask)
    elif content.html is not None:
        html = mask.hide(content.html)
    if html is not None:
        if footer and not _leaves(content.mjml or content.html or ""):
            html = _before_end(html, mask.hide(_footer_html(*footer)))
        text = mask.hide(content.text) if content.text is not None else plaintext.from_html(html, mask)
        if content.preheader:
            hidden = mask.hide(content.preheader)
            html = _after_body(html, _PREHEADER.format(templates.escape(hidden), _FILLER))
    else:
        text = mask.hide(content.text or "")
    if footer and content.text is not None and not _leaves(content.text):
        text = text.rstrip() + "\n\n" + mask.hide(_footer_text(*footer))
    return Parts(html=html, text=text, mask=mask)


_PREHEADER = (
    '<div style="display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;mso-hide:all;'
    'font-size:1px;line-height:1px;color:transparent">{}{}</div>'
)


def _leaves(source: str) -> bool:
    """Whether a template has its own way out."""
    return any(name.partition(".")[0] == "unsubscribe_url" for name in templates.used(source))


def _footer_html(postal_address: str | None, locale: str | None) -> str:
    words = texts(locale)
    address = literal(templates.escape((postal_address or "").strip())).replace("\n", "<br>")
    link = '<a href="{{{{ {} }}}}" style="color:#666666;text-decoration:underline">{}</a>'
    return (
        '<div style="margin:24px auto 0;padding:16px 20px;max-width:600px;font-family:Arial,Helvetica,sans-serif;'
        'font-size:12px;line-height:18px;color:#666666;text-align:center">'
        f"{words.why}<br>"
        f"{link.format('unsubscribe_url', words.unsubscribe)} · {link.format('preferences_url', words.preferences)}"
        f"{'<br>' + address if address else ''}</div>"
    )


def _footer_text(postal_address: str | None, locale: str | None) -> str:
    words = texts(locale)
    address = literal((postal_address or "").strip())
    lines = [
        words.why,
        f"{words.unsubscribe}: {{{{ unsubscribe_url }}}}",
        f"{words.preferences}: {{{{ preferences_url }}}}",
        *([address] if address else []),
    ]
    return "\n".join(lines)


def _after_body(html: str, piece: str) -> str:
    match = _BODY.search(html)
    at = match.end() if match else 0
    return html[:at] + piece + html[at:]


def _before_end(html: str, piece: str) -> str:
    match = None
    for pattern in (_BODY_END, _HTML_END):
        for match in pattern.finditer(html):  # noqa: B007
            pass
        if match:
            break
    at = match.start() if match else len(html)
    return html[:at] + piece + html[at:]


def _try(content: Content, compiled: Compiled) -> None:
    """Render for someone of whom nothing is known: what fails for them fails in the middle of a campaign otherwise."""
    nobody = {"subscriber": templates.subscriber(Person(id=0, email="reader@example.com"))}
    variables = nobody | dict.fromkeys([*templates.URLS, templates.LETTER], "https://example.com/")
    sources = [(name, getattr(content, name), name in {"mjml", "html"}) for name in _FIELDS]
    for name, source, html in sources:
        if source is not None:
            templates.render(source, html=html, variables=variables, field=name)
    templates.render(compiled.text, html=False, variables=variables, field="text")
    if compiled.html is not None:
        templates.render(
            compiled.html, html=True, variables=variables, field="mjml" if content.mjml is not None else "html"
        )
