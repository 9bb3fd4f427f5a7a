"""What a letter will look like, and what a marketer would want to know before it goes out."""

from collections.abc import Iterator

from msgspec import Struct

from mailbase.letters import quoted, templates
from mailbase.letters.compile import check_content, untracked
from mailbase.letters.content import Compiled, Content, Person, Rendered, Tokens
from mailbase.letters.fill import encode, variables
from mailbase.letters.links import elements

CLIP = 102 * 1024
"""Bytes of HTML after which the largest mailbox provider cuts a letter off."""

LONG_SUBJECT = 70


class Warning(Struct, frozen=True):
    """Something that will go out as it is, but perhaps should not. ``code`` is a stable word."""

    code: str
    message: str


class Preview(Struct):
    """A letter as one person would get it, untracked. ``size``: bytes of the encoded letter, without its headers."""

    subject: str
    html: str | None
    text: str
    size: int
    warnings: list[Warning]


def preview(
    content: Content,
    person: Person | None,
    *,
    base_url: str,
    postal_address: str | None = None,
    locale: str | None = None,
    tokens: Tokens | None = None,
    known_attributes: set[str] | None = None,
    track_clicks: bool = True,
) -> Preview:
    """Render a letter for a person, or for someone of whom nothing is known.

    ``known_attributes``: the names any subscriber has; without it, unknown attributes are not looked for.

    Raises:
        Invalid: what ``compile_campaign`` refuses.
    """
    check_content(content, track_clicks=track_clicks)
    person = person or Person(id=0, email="reader@example.com")
    tokens = tokens or Tokens("preview", "preview", "preview", "preview")
    compiled = untracked(content, postal_address=postal_address, locale=locale)
    rendered = render(compiled, person, tokens, base_url=base_url)
    _headers, body = encode(rendered)
    return Preview(
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        size=len(body),
        warnings=list(_warnings(content, rendered, known_attributes, own=f"{base_url.rstrip('/')}/")),
    )


def render(compiled: Compiled, person: Person, tokens: Tokens, *, base_url: str | None = None) -> Rendered:
    """Render a compiled letter as plain strings: the page behind ``/v/``, and the measure of what ``fill`` gives."""
    seen = variables((base_url or compiled.base_url).rstrip("/"), person, tokens)
    html = None
    if compiled.html is not None:
        html = templates.render(compiled.html, html=True, variables=seen, field="html")
    return Rendered(
        subject=templates.one_line(templates.render(compiled.subject, html=False, variables=seen, field="subject")),
        text=templates.render(compiled.text, html=False, variables=seen, field="text"),
        html=html,
    )


def _warnings(
    content: Content, rendered: Rendered, known_attributes: set[str] | None, *, own: str
) -> Iterator[Warning]:
    # Our own links go where the service is reached; that is not the letter's mistake.
    written = content.mjml if content.mjml is not None else content.html
    if len(rendered.subject) > LONG_SUBJECT:
        yield Warning(
            "long_subject", f"The subject has {len(rendered.subject)} characters; phones show about {LONG_SUBJECT}."
        )
    if rendered.html is not None and written is not None:
        size = len(quoted.piece(rendered.html))
        if size > CLIP:
            yield Warning("size", f"The HTML is {size // 1024} kB; Gmail cuts letters off at {CLIP // 1024} kB.")
        if not content.preheader and "<mj-preview" not in written.lower():
            yield Warning("no_preheader", "There is no preheader: the inbox shows the letter's first words instead.")
        if content.text is None:
            yield Warning("no_text", "There is no text part; one is derived from the HTML.")
        yield from _html_warnings(rendered.html, own)
    elif "http://" in rendered.text.replace(own, ""):
        yield Warning("insecure_link", "A link goes to http://, not https://.")
    sources = [source for source in (content.mjml, content.html, content.text) if source is not None]
    if not any("unsubscribe_url" in templates.used(source) for source in sources):
        yield Warning(
            "no_unsubscribe_link", "The letter has no unsubscribe link of its own; a footer with one is added."
        )
    if known_attributes is not None:
        yield from _unknown_attributes(content, known_attributes)


def _html_warnings(html: str, own: str) -> Iterator[Warning]:
    images = 0
    insecure: list[str] = []
    # Rendered HTML holds no tags of ours any more; the walk is the one that finds links.
    for element in elements(html):
        if element.name == "img" and element.value("alt") is None:
            images += 1
        href = element.value("href") if element.name in {"a", "area"} else None
        if href and href.strip().lower().startswith("http://") and not href.strip().startswith(own):
            insecure.append(href.strip())
    if images:
        yield Warning("image_without_alt", f"{images} image(s) without alternative text.")
    if insecure:
        yield Warning("insecure_link", f"{len(insecure)} link(s) without https: {', '.join(insecure[:3])[:200]}")


def _unknown_attributes(content: Content, known: set[str]) -> Iterator[Warning]:
    names: set[str] = set()
    for source in (content.subject, content.preheader, content.mjml, content.html, content.text):
        for used in templates.used(source) if source else ():
            parts = used.split(".")
            if parts[:2] == ["subscriber", "attributes"] and len(parts) > 2:
                names.add(parts[2])
    for name in sorted(names - known):
        yield Warning("unknown_attribute", f"No subscriber has the attribute “{name}”; it will be empty.")
