"""Forms: what a visitor is asked, and in which words.

The definition is one JSON document; ``key`` is its public, unguessable name. Interests are kept by id, so a renamed slug
does not change a form, and one that was deleted is simply no longer asked for.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from asyncpg import Record
from msgspec import Struct

from mailbase.audience import consent_versions
from mailbase.audience.form_definition import NewForm
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid, NotFound

KEY_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
KEY_LENGTH: Final = 20


class FormInterest(Struct, frozen=True):
    """An interest a form asks for."""

    id: int
    slug: str
    name: str
    description: str | None


class Form(Struct, kw_only=True):
    """A stored form; ``interests`` are those that still exist, in the owner's order."""

    id: int
    key: str
    name: str
    definition: NewForm
    interests: list[FormInterest]
    created_at: datetime
    updated_at: datetime

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may hold the form."""
        allowed = self.definition.allowed_origins
        return not allowed or origin.lower() in allowed


INTEREST_IDS = """
SELECT id, slug FROM interests WHERE slug = ANY($1::text[])
"""


async def interest_ids(db: Connection, slugs: Sequence[str]) -> list[int]:
    """Return the ids of these slugs.

    Raises:
        Invalid: ``unknown_interest``, each by its place.

    """
    ids = {row["slug"]: row["id"] for row in await db.fetch(INTEREST_IDS, slugs)}
    errors = [
        FieldError(f"interests.{n}", "unknown_interest", f"there is no interest {slug}")
        for n, slug in enumerate(slugs)
        if slug not in ids
    ]
    if errors:
        raise Invalid(code="unknown_interest", errors=errors)
    return [ids[slug] for slug in slugs]


CREATE = """
INSERT INTO forms (key, name, definition, allowed_origins) VALUES ($1, $2, $3, $4) RETURNING id
"""


async def create(db: Connection, form: NewForm) -> Form:
    """Store a checked form under a new key.

    Raises:
        Invalid: an interest does not exist.

    """
    definition = await _stored(db, form)
    key = "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH))
    form_id = await db.fetchval(CREATE, key, form.name, definition, form.allowed_origins)
    await consent_versions.keep(db, form_id, form.consents)
    return await get(db, form_id)


async def _stored(db: Connection, form: NewForm) -> dict[str, Any]:
    definition: dict[str, Any] = msgspec.to_builtins(form)
    definition["interests"] = await interest_ids(db, form.interests)
    return definition


UPDATE = """
UPDATE forms SET name = $2, definition = $3, allowed_origins = $4, updated_at = now() WHERE id = $1 RETURNING id
"""


async def update(db: Connection, form_id: int, form: NewForm) -> Form:
    """Replace a form's definition by a checked one.

    Raises:
        Invalid: an interest does not exist.
        NotFound: the form does not.

    """
    if await db.fetchval(UPDATE, form_id, form.name, await _stored(db, form), form.allowed_origins) is not None:
        await consent_versions.keep(db, form_id, form.consents)
    return await get(db, form_id)


GET = """
SELECT form.id, key, form.name, definition, form.created_at, form.updated_at, COALESCE((
    SELECT jsonb_agg(jsonb_build_object('id', interest.id, 'slug', slug, 'name', interest.name, 'description', description) ORDER BY position)
    FROM jsonb_array_elements(definition -> 'interests') WITH ORDINALITY AS asked (id, position)
    JOIN interests AS interest ON interest.id = asked.id::bigint
), '[]') AS interests
FROM forms AS form WHERE form.id = $1
"""


async def get(db: Connection, form_id: int) -> Form:
    """Return a form.

    Raises:
        NotFound: there is none.

    """
    row = await db.fetchrow(GET, form_id)
    if row is None:
        raise NotFound("there is no such form")
    return _form(row)


BY_KEY = """
SELECT form.id, key, form.name, definition, form.created_at, form.updated_at, COALESCE((
    SELECT jsonb_agg(jsonb_build_object('id', interest.id, 'slug', slug, 'name', interest.name, 'description', description) ORDER BY position)
    FROM jsonb_array_elements(definition -> 'interests') WITH ORDINALITY AS asked (id, position)
    JOIN interests AS interest ON interest.id = asked.id::bigint
), '[]') AS interests
FROM forms AS form WHERE key = $1
"""


async def by_key(db: Connection, key: str) -> Form:
    """Return the form of this public key.

    Raises:
        NotFound: there is none.

    """
    row = await db.fetchrow(BY_KEY, key) if len(key) <= 64 and "\0" not in key else None
    if row is None:
        raise NotFound("there is no such form")
    return _form(row)


PAGE = """
SELECT form.id, key, form.name, definition, form.created_at, form.updated_at, COALESCE((
    SELECT jsonb_agg(jsonb_build_object('id', interest.id, 'slug', slug, 'name', interest.name, 'description', description) ORDER BY position)
    FROM jsonb_array_elements(definition -> 'interests') WITH ORDINALITY AS asked (id, position)
    JOIN interests AS interest ON interest.id = asked.id::bigint
), '[]') AS interests
FROM forms AS form WHERE form.id < $1 ORDER BY form.id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int) -> list[Form]:
    """Return forms with an id below ``before``, newest first."""
    return [_form(row) for row in await db.fetch(PAGE, before, limit)]


COUNT = """
SELECT count(*) FROM forms
"""


async def count(db: Connection) -> int:
    """Return how many forms there are."""
    total: int = await db.fetchval(COUNT)
    return total


DELETE = """
DELETE FROM forms WHERE id = $1 RETURNING id
"""


async def delete(db: Connection, form_id: int) -> None:
    """Delete a form with its counts and submissions; who subscribed through it stays.

    Raises:
        NotFound: there is none.

    """
    if await db.fetchval(DELETE, form_id) is None:
        raise NotFound("there is no such form")


def _form(row: Record) -> Form:
    interests = msgspec.convert(row["interests"], list[FormInterest])
    definition = msgspec.convert({**row["definition"], "interests": [interest.slug for interest in interests]}, NewForm)
    return Form(
        id=row["id"],
        key=row["key"],
        name=row["name"],
        definition=definition,
        interests=interests,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
