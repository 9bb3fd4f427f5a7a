"""``/v1/messages``: one letter to one person, rendered and stored before it is acknowledged, sent ahead of every campaign."""

from typing import Annotated, Any, Final

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct, field

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience import addresses, subscribers, suppressions
from mailbase.audience.limits import ONE_LINE
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid, NotFound, gathered
from mailbase.letters.compile import compile_variables
from mailbase.letters.content import Attachment, Content, Sender
from mailbase.letters.mime import check_attachments, check_headers
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import Message, NewMessage

MOST_BYTES: Final = 15 * 1024 * 1024


class FromIn(Body):
    """The sender."""

    email: Annotated[str, Meta(max_length=320, examples=["orders@shop.example"])]
    name: Annotated[str, Meta(max_length=200, pattern=ONE_LINE)] = ""


class AttachmentIn(Body):
    """A file; ``content`` is base64."""

    filename: Annotated[str, Meta(min_length=1, max_length=255, examples=["invoice.pdf"])]
    content_type: Annotated[str, Meta(max_length=127, examples=["application/pdf"])]
    content: bytes


class MessageIn(Body):
    """A letter. Subject and bodies are templates; ``variables`` are their top-level names."""

    from_: FromIn = field(name="from")
    to: Annotated[str, Meta(max_length=320, examples=["ann@example.com"])]
    subject: Annotated[str, Meta(min_length=1, max_length=998, pattern=ONE_LINE, examples=["Your order {{ number }}"])]
    mjml: str | None = None
    html: str | None = None
    text: str | None = None
    variables: Annotated[dict[str, Any], Meta(examples=[{"number": 42}])] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    attachments: Annotated[list[AttachmentIn], Meta(max_length=20)] = field(default_factory=list)


class Accepted(Struct):
    """A letter on its way."""

    id: int
    status: str


@post(
    "/messages",
    guards=[scope("messages:send")],
    operation_id="send_message",
    tags=["Messages"],
    status_code=202,
    request_max_body_size=MOST_BYTES,
)
async def send_message(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    erasure_key: NamedDependency[bytes],
    data: JSONBody[MessageIn],
) -> Accepted:
    """Send one letter to one person. It is stored when this answers; a suppressed address is refused."""
    message = await _checked(db, data, settings, erasure_key)
    message_id, _ = await messages.create(db, message)
    return Accepted(message_id, "queued")


async def _checked(db: Connection, data: MessageIn, settings: Settings, erasure_key: bytes) -> NewMessage:
    errors: list[FieldError] = []
    sender = to = rendered = None
    files = [Attachment(one.filename, one.content_type, one.content) for one in data.attachments]
    with gathered(errors):
        sender = addresses.parse(data.from_.email, field="from.email")
        if settings.sending_checks == "strict" and not await messages.has_domain(db, sender.domain):
            raise Invalid.field("from.email", "unknown_domain", f"{sender.domain} is not one of the sending domains.")
    with gathered(errors):
        to = addresses.parse(data.to, field="to")
        await suppressions.refuse(db, to, erasure_key, field="to")
    headers, reply_to = data.headers, None
    with gathered(errors):
        headers, reply_to = _reply_to(data.headers)
        check_headers(headers)
    with gathered(errors):
        check_attachments(files)
    with gathered(errors):
        content = Content(subject=data.subject, mjml=data.mjml, html=data.html, text=data.text)
        rendered = compile_variables(content, data.variables)
    if errors or sender is None or to is None or rendered is None:
        raise Invalid(code=errors[0].code, errors=errors)
    return NewMessage(
        kind="transactional",
        from_=Sender(data.from_.name.strip(), sender.email),
        to=to,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        headers=headers,
        reply_to=reply_to,
        attachments=files,
        subscriber_id=await _subscriber(db, to.key),
    )


def _reply_to(headers: dict[str, str]) -> tuple[dict[str, str], str | None]:
    """Take ``Reply-To`` out of the headers: it is an address and is written as one."""
    named = [name for name in headers if name.lower() == "reply-to"]
    if not named:
        return headers, None
    rest = {name: value for name, value in headers.items() if name not in named}
    return rest, addresses.parse(headers[named[-1]].strip(), field=f"headers.{named[-1]}").email


async def _subscriber(db: Connection, key: str) -> int | None:
    try:
        return (await subscribers.by_key(db, key)).id
    except NotFound:
        return None


@get("/messages", guards=[scope("messages:send")], operation_id="list_messages", tags=["Messages"])
async def list_messages(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[Message]:
    """List messages with what became of them: transactional ones, confirmations and tests."""
    found = await messages.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await messages.count(db) if page.include_total else None)


@get("/messages/{message_id:int}", guards=[scope("messages:send")], operation_id="get_message", tags=["Messages"])
async def get_message(db: NamedDependency[Connection], message_id: FromPath[int]) -> Message:
    """Return a message with what became of it."""
    return await messages.get(db, message_id)


ROUTES: Final = [send_message, list_messages, get_message]
