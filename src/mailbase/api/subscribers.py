"""``/v1/subscribers``: people."""

import math
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Final

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from mailbase.api.common import LARGEST, Answer, Body, Listing, Page, paged, scope
from mailbase.audience import addresses, erasure, forms, interests, subscribers, upserts
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.form_definition import origin_of
from mailbase.audience.subscribers import Details, Filter, Subscriber
from mailbase.audience.upserts import OnConflict, Saved
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Conflict, FieldError, Invalid, NotFound, RateLimited, gathered
from mailbase.optin import confirmation, cooldowns
from mailbase.optin.confirmation import Desk
from mailbase.tokens import Tokens

TAGS: Final = ["Subscribers"]
CLOCKS_DIFFER: Final = timedelta(minutes=5)

Attributes = Annotated[dict[str, Any], Meta(examples=[{"city": "Porto", "age": 41}])]
Tags = Annotated[list[str], Meta(max_length=1000, examples=[["customer"]])]
Slugs = Annotated[list[str], Meta(max_length=1000, examples=[["news"]])]
Locale = Annotated[str, Meta(max_length=64, examples=["pt-PT"])]
Timezone = Annotated[str, Meta(max_length=64, examples=["Europe/Lisbon"])]
Email = Annotated[str, Meta(min_length=1, max_length=1000, examples=["reader@example.com"])]


class ConsentIn(Body):
    """Who agreed to which words, and where that was."""

    purpose: Annotated[str, Meta(min_length=1, max_length=64, examples=["newsletter"])]
    text: Annotated[str, Meta(min_length=1, max_length=10_000, examples=["Yes, write to me once a week."])]
    policy_url: Annotated[str, Meta(max_length=2000)] | None = None
    source: Annotated[str, Meta(max_length=200)] | None = None
    page: Annotated[str, Meta(max_length=2000)] | None = None
    ip: Annotated[str, Meta(max_length=64, examples=["192.0.2.7"])] | None = None
    user_agent: Annotated[str, Meta(max_length=1000)] | None = None
    at: Annotated[datetime, Meta(tz=True)] | None = None

    def given(self, field: str = "consent") -> ConsentGiven:
        """Return it as evidence.

        Raises:
            Invalid: the IP address is none, the policy is no web page, or the time is still to come.

        """
        ip: str | None = None
        errors: list[FieldError] = []
        try:
            ip = None if self.ip is None else str(ip_address(self.ip.partition("%")[0]))
        except ValueError:
            errors.append(FieldError(f"{field}.ip", "invalid_value", "This is not an IP address."))
        if self.policy_url is not None and origin_of(self.policy_url) is None:
            errors.append(
                FieldError(f"{field}.policy_url", "invalid_url", "An absolute http or https address is needed.")
            )
        if self.at is not None and self.at > datetime.now(UTC) + CLOCKS_DIFFER:
            errors.append(FieldError(f"{field}.at", "in_the_future", "Nobody has agreed to anything yet at this time."))
        if errors:
            raise Invalid(errors=errors, code=errors[0].code)
        return ConsentGiven(
            purpose=self.purpose,
            text=self.text,
            policy_url=self.policy_url,
            source=self.source,
            page=self.page,
            ip=ip,
            user_agent=self.user_agent,
            at=self.at,
        )


class SubscriberPut(Body, kw_only=True):
    """What is known of a person beside the address."""

    attributes: Attributes | None = None
    tags: Tags | None = None
    interests: Slugs | None = None
    locale: Locale | None = None
    timezone: Timezone | None = None
    double_opt_in: bool | UnsetType = UNSET
    consent: ConsentIn | None = None
    form_id: Annotated[int, Meta(ge=1, le=LARGEST)] | None = None


class SubscriberIn(SubscriberPut, kw_only=True):
    """A person to be added."""

    email: Email
    double_opt_in: bool = True
    on_conflict: OnConflict = "error"


class SubscriberPatch(Body):
    """What shall change: attributes key by key (null takes one away), lists as a whole."""

    attributes: Attributes | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    interests: Slugs | UnsetType = UNSET
    locale: Locale | UnsetType | None = UNSET
    timezone: Timezone | UnsetType | None = UNSET
    status: subscribers.Status | UnsetType = UNSET


def provide_desk(
    settings: NamedDependency[Settings], tokens: NamedDependency[Tokens], erasure_key: NamedDependency[bytes]
) -> Desk:
    """Return what asking for a confirmation needs."""
    return Desk(tokens=tokens, public_url=settings.public_url, erasure_key=erasure_key)


DESK: Final = {"desk": Provide(provide_desk, sync_to_thread=False)}


async def provide_filter(
    db: NamedDependency[Connection],
    status: Annotated[subscribers.Status | None, QueryParameter(description="Of one status.")] = None,
    tag: Annotated[str | None, QueryParameter(max_length=64, description="With this tag.")] = None,
    interest: Annotated[str | None, QueryParameter(max_length=64, description="With this interest (slug).")] = None,
    email_prefix: Annotated[str | None, QueryParameter(max_length=254, description="Whose address starts so.")] = None,
) -> Filter:
    """Read which people are meant; an interest nobody knows finds nobody."""
    chosen = None if interest is None else (await interests.ids(db, [interest])).get(interest, 0)
    return Filter(status=status, tag=tag, interest=chosen, email_prefix=email_prefix)


async def _save(
    db: Connection, desk: Desk, email: str, data: SubscriberPut, on_conflict: OnConflict
) -> Answer[Subscriber]:
    details = Details(attributes=data.attributes, tags=data.tags, locale=data.locale, timezone=data.timezone)
    address = consent = form = None
    errors: list[FieldError] = []
    with gathered(errors):
        address = addresses.parse(email)
    errors += upserts.check(details)
    with gathered(errors):
        details.interests = None if data.interests is None else await interests.resolve(db, data.interests)
    with gathered(errors):
        consent = data.consent.given() if data.consent else None
    with gathered(errors):
        form = await _form(db, data.form_id)
    if data.double_opt_in is False and data.consent is None:
        errors.append(upserts.CONSENT_REQUIRED)
    if errors or address is None:
        raise Invalid(errors=errors, code=errors[0].code)
    saved: Saved = await upserts.save(
        db,
        address,
        details,
        consent=consent,
        double_opt_in=data.double_opt_in is not False,
        on_conflict=on_conflict,
        erasure_key=desk.erasure_key,
    )
    if saved.ask and (saved.created or data.double_opt_in is True):
        await confirmation.ask(
            db,
            desk,
            saved.id,
            form=form,
            interests=details.interests or (),
            consents=[consent] if consent else (),
            locale=details.locale,
        )
    return Answer(await subscribers.get(db, saved.id), status_code=201 if saved.created else 200)


async def _form(db: Connection, form_id: int | None) -> forms.Form | None:
    if form_id is None:
        return None
    try:
        return await forms.get(db, form_id)
    except NotFound:
        raise Invalid.field("form_id", "unknown_form", "There is no such form.") from None


@post(
    "/subscribers", guards=[scope("subscribers:write")], operation_id="create_subscriber", tags=TAGS, dependencies=DESK
)
async def create_subscriber(
    db: NamedDependency[Connection],
    desk: NamedDependency[Desk],
    data: JSONBody[SubscriberIn],
) -> Answer[Subscriber]:
    """Add a person: 201, or 200 where `on_conflict` let an existing one be changed or skipped.

    With `double_opt_in` the person gets a confirmation letter and is `pending`; without it the consent given must come along, and the person
    is `active` at once. Who left, bounced or complained stays away.
    """
    return await _save(db, desk, data.email, data, data.on_conflict)


@put(
    "/subscribers/by-email/{email:str}",
    guards=[scope("subscribers:write")],
    operation_id="upsert_subscriber",
    tags=TAGS,
    dependencies=DESK,
)
async def upsert_subscriber(
    db: NamedDependency[Connection],
    desk: NamedDependency[Desk],
    email: FromPath[str],
    data: JSONBody[SubscriberPut],
) -> Answer[Subscriber]:
    """Add the person (201) or merge what is given into what is there (200).

    Without `double_opt_in`, a new person gets a confirmation letter and one who is there gets none; with `true` whoever is
    pending or has left is asked (again), unless the address cools down.
    """
    return await _save(db, desk, email, data, "merge")


@get(
    "/subscribers/by-email/{email:str}",
    guards=[scope("subscribers:read")],
    operation_id="get_subscriber_by_email",
    tags=TAGS,
)
async def get_by_email(db: NamedDependency[Connection], email: FromPath[str]) -> Subscriber:
    """Return the person of an address, in whatever case it is written."""
    return await subscribers.by_key(db, addresses.parse(email).key)


@get("/subscribers/{subscriber_id:int}", guards=[scope("subscribers:read")], operation_id="get_subscriber", tags=TAGS)
async def get_subscriber(db: NamedDependency[Connection], subscriber_id: FromPath[int]) -> Subscriber:
    """Return one person."""
    return await subscribers.get(db, subscriber_id)


@get(
    "/subscribers",
    guards=[scope("subscribers:read")],
    operation_id="list_subscribers",
    tags=TAGS,
    dependencies={"which": Provide(provide_filter)},
)
async def list_subscribers(
    db: NamedDependency[Connection], page: NamedDependency[Page], which: NamedDependency[Filter]
) -> Listing[Subscriber]:
    """List people."""
    found = await subscribers.page(db, which, before=page.before, limit=page.take)
    return paged(page, found, total=await subscribers.count(db, which) if page.include_total else None)


@patch(
    "/subscribers/{subscriber_id:int}", guards=[scope("subscribers:write")], operation_id="update_subscriber", tags=TAGS
)
async def update_subscriber(
    db: NamedDependency[Connection], subscriber_id: FromPath[int], data: JSONBody[SubscriberPatch]
) -> Subscriber:
    """Change a person. `status` goes from `active` to `archived` and back, or to `unsubscribed`; any other step is a 409."""
    given = Details(
        attributes=data.attributes or None,
        tags=None if data.tags is UNSET else data.tags,
        locale=data.locale or None,
        timezone=data.timezone or None,
    )
    errors = upserts.check(given)
    with gathered(errors):
        given.interests = None if data.interests is UNSET else await interests.resolve(db, data.interests)
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
    clear = [name for name, value in (("locale", data.locale), ("timezone", data.timezone)) if value is not UNSET]
    upserts.refuse_too_much(*await subscribers.patch(db, subscriber_id, given, clear=clear))
    if data.status is not UNSET:
        await subscribers.set_status(db, subscriber_id, data.status)
    return await subscribers.get(db, subscriber_id)


@delete(
    "/subscribers/{subscriber_id:int}", guards=[scope("subscribers:write")], operation_id="erase_subscriber", tags=TAGS
)
async def erase_subscriber(
    db: NamedDependency[Connection], erasure_key: NamedDependency[bytes], subscriber_id: FromPath[int]
) -> None:
    """Erase a person: everything personal goes, a keyed hash stays so that nobody writes to them again."""
    await erasure.erase(db, subscriber_id, erasure_key)


@post(
    "/subscribers/{subscriber_id:int}/unsubscribe",
    guards=[scope("subscribers:write")],
    operation_id="unsubscribe_subscriber",
    tags=TAGS,
    status_code=200,
)
async def unsubscribe(db: NamedDependency[Connection], subscriber_id: FromPath[int]) -> Subscriber:
    """Let a person leave everything; again changes nothing."""
    found = await subscribers.get(db, subscriber_id)
    changed = await subscribers.unsubscribe(db, subscriber_id, source="api")
    return await subscribers.get(db, subscriber_id) if changed else found


@post(
    "/subscribers/{subscriber_id:int}/confirmation",
    guards=[scope("subscribers:write")],
    operation_id="send_confirmation",
    tags=TAGS,
    dependencies=DESK,
    status_code=202,
)
async def send_confirmation(
    db: NamedDependency[Connection],
    desk: NamedDependency[Desk],
    subscriber_id: FromPath[int],
) -> Subscriber:
    """Send the confirmation letter again; 429 while the address cools down, 409 for a person who need not or may not confirm."""
    found = await subscribers.get(db, subscriber_id)
    if found.status != "pending":
        raise Conflict(f"This subscriber is {found.status}; only who is pending is asked again.", code="not_pending")
    outcome = await confirmation.send_again(db, desk, subscriber_id)
    if outcome == "suppressed":
        raise Invalid("This address is on the suppression list.", code="suppressed")
    if outcome == "cooldown":
        again = await cooldowns.next_at(db, addresses.parse(found.email), desk.erasure_key)
        wait = 0 if again is None else math.ceil((again - datetime.now(UTC)).total_seconds())
        raise RateLimited("A letter went to this address a short while ago.", retry_after=max(1, wait))
    return found


ROUTES: Final = [
    create_subscriber,
    upsert_subscriber,
    get_by_email,
    get_subscriber,
    list_subscribers,
    update_subscriber,
    erase_subscriber,
    unsubscribe,
    send_confirmation,
]
