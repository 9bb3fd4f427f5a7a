"""The two lanes and where their letters come from: campaigns in turn, and messages, which wait for no campaign.

A source leases, composes and marks; :mod:`~mailbase.sending.dispatch.dispatcher` sets the pace.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Final, Protocol

import asyncpg
from msgspec import Struct

from mailbase.audience.suppressions import erased_value
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.letters.content import Attachment
from mailbase.sending.deliveries import leases, marks
from mailbase.sending.deliveries.leases import CampaignLetter, MessageLetter
from mailbase.sending.deliveries.marks import Marked, Pair
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.dispatch import compose, faults
from mailbase.sending.dispatch.campaign_queue import CampaignQueue
from mailbase.sending.dispatch.compose import Draft, Stream, Streams
from mailbase.sending.dispatch.faults import Faults
from mailbase.sending.labels import Label
from mailbase.sending.outcomes import Envelope
from mailbase.sending.relays.shares import Interval
from mailbase.sending.signing.dkim import Signer
from mailbase.sending.signing.signers import Signers
from mailbase.sending.warmup.waiting import Due
from mailbase.tokens import Tokens

MESSAGES: Final = 64
"""Messages leased together; they come with their bodies."""


def boottime() -> float:
    """Return seconds on a clock that goes on while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holding:
    """The lease of one batch as this process knows it. ``holds()`` is asked until the last moment before content goes out."""

    __slots__ = ("fence", "open", "until")

    def __init__(self, fence: int, until: float, letters: int) -> None:
        self.fence = fence
        self.until = until
        self.open = letters
        """How many are neither recorded nor given back; a lease without any can end."""

    def holds(self) -> bool:
        """Whether the lease certainly still holds."""
        return boottime() < self.until

    def settle(self, letters: int = 1) -> None:
        """Note letters that are recorded, or given back."""
        self.open -= letters


class Ready(Struct, gc=False):
    """A composed letter. ``envelope`` None: there is nobody to write to any more; the mark will say why."""

    id: int
    proof: str
    """What the mark compares: the address written for, or the address's hash as an erased one."""
    handed: Handed
    envelope: Envelope | None
    failure: str | None = None
    """Why it could not be composed."""
    draft: Draft | None = None
    """What is left to sign."""


class Batch(ABC):
    """The letters of one lease that are still to be prepared, and how. ``undecided``: leased, and not yet in a mark."""

    def __init__(self, holding: Holding, ids: Iterable[int]) -> None:
        self.holding = holding
        self.undecided = set(ids)

    @abstractmethod
    async def prepare(self, pool: Pool, now: datetime) -> Ready | None:
        """Compose the next letter, or return None at the end."""

    def seal(self, ready: Sequence[Ready]) -> None:
        """Sign what was prepared."""
        compose.seal(one.draft for one in ready if one.draft is not None)

    @abstractmethod
    async def mark(self, db: Connection, ready: Sequence[Ready]) -> Marked:
        """Mark letters that were prepared: the next ones of the lease."""


class Source(Protocol):
    """Where a lane's letters come from."""

    name: str

    async def lease(self, pool: Pool, limit: int) -> Batch | None:
        """Lease a batch, or return None when nothing is due."""


class CampaignBatch(Batch):
    """Letters of one campaign."""

    def __init__(
        self, holding: Holding, letters: list[CampaignLetter], *, due: Due, stream: Stream, signer: Signer | None,
        interests: dict[int, str], capped: bool, egress: str, to_outbox: bool, slot: int, labels: Sequence[Label],
        heard: Faults, full: Callable[[], Collection[str]],
    ) -> None:  # fmt: skip
        super().__init__(holding, [letter.id for letter in letters])
        self._faults = heard
        self._full = full
        self._letters = deque(letters)
        self._due = due
        self._stream = stream
        self._signer = signer
        self._interests = interests
        self._capped = capped
        self._tiers = {letter.id: letter.tier for letter in letters}
        self._egress = egress
        self._to_outbox = to_outbox
        self._slot = slot
        self._labels = labels

    async def prepare(self, pool: Pool, now: datetime) -> Ready | None:  # noqa: ARG002  (all it needs came with the lease)
        """Compose the next letter."""
        if not self._letters:
            return None
        letter = self._letters.popleft()
        email = letter.email or ""
        due = self._due
        handed = Handed(
            letter.id, self.holding.fence, due.campaign_id, due.domain_id, letter.subscriber_id, letter.provider,
            email, None, letter.attempts + 1, None, egress=self._egress, settled=self.holding.settle,
        )  # fmt: skip
        if not email:
            return Ready(letter.id, email, handed, None)
        try:
            composed = self._stream.compose(letter, email, self._interests, self._signer, now, self._labels)
        except Exception as error:  # noqa: BLE001  (whatever it is: this letter's alone, until more of them fail)
            return Ready(letter.id, email, handed, None, failure=faults.words(error, f"letter {letter.id}"))
        draft = composed if isinstance(composed, Draft) else None
        envelope = composed.envelope if isinstance(composed, Draft) else composed
        envelope.holds = self.holding.holds
        return Ready(letter.id, email, handed, envelope, draft=draft)

    async def mark(self, db: Connection, ready: Sequence[Ready]) -> Marked:
        """Mark the next letters of the lease; where letter after letter fails, stop the campaign instead."""
        failures = [one.failure for one in ready if one.failure is not None]
        if (why := self._faults.heard(self._due.campaign_id, failures, of=len(ready))) is not None:
            await faults.stop(db, self._due.campaign_id, why)
        pairs = [Pair(one.id, one.proof, one.handed.provider, self._tiers[one.id]) for one in ready]
        marked = await marks.mark_campaign(
            db, self._due.campaign_id, self._due.domain_id, self.holding.fence, pairs,
            egress=self._egress, to_outbox=self._to_outbox, slot=self._slot, capped=self._capped,
            closed=self._full(),
        )  # fmt: skip
        self._capped = self._capped or marked.bucket is not None or marked.held
        return marked


INTERESTS = """
SELECT id, slug FROM interests
"""


class CampaignSource:
    """All campaigns that are sending, in turn, each within its domain's allowance."""

    name = "campaigns"

    def __init__(
        self, streams: Streams, signers: Signers, *, to_outbox: bool, slot: int, lease: timedelta,
        egress: str | None = None, full: Callable[[], Collection[str]] = tuple,
        own: Callable[[], Sequence[Interval] | None] = lambda: None,
        diverted: Callable[[], Mapping[str, Sequence[Interval]]] = dict, labels: Sequence[Label] = (),
    ) -> None:  # fmt: skip
        """``egress`` is the name of the way out, by which the warm-up counts; ``full``: of whom it takes no more just now.

        ``own``: the slots of its letters, where several ways out share them; ``diverted``: those of single providers' letters, where they
        are shared in another way; ``labels``: what the service there wants in letters.
        """
        self._streams = streams
        self._signers = signers
        self._to_outbox = to_outbox
        self._slot = slot
        self._lease = lease
        self._egress = egress or ("outbox" if to_outbox else "relay")
        self._labels = labels
        self._faults = Faults()
        self._full = full
        self._queue = CampaignQueue(
            self._egress,
            to_outbox=to_outbox,
            slot=slot,
            clock=boottime,
            random=Random(),  # noqa: S311  (chance, no secret)
            lease=lease,
            full=full,
            own=own,
            diverted=diverted,
        )

    async def lease(self, pool: Pool, limit: int) -> Batch | None:
        """Lease from the next campaign in turn that may send."""
        async with pool.acquire() as db:
            until = boottime() + self._lease.total_seconds()
            leased = await self._queue.lease(db, limit, accept=self._can_be_made)
            if leased is None:
                return None
            due = leased.due
            stream = await self._streams.get(db, due.campaign_id)
            if stream is None:
                await leases.close(db, [leased.fence])
                return None
            signer = await self._signers.get(db, due.key_id)
            chosen = any(letter.interests for letter in leased.letters)
            interests = {row["id"]: row["slug"] for row in await db.fetch(INTERESTS)} if chosen else {}
            return CampaignBatch(
                Holding(leased.fence, until, len(leased.letters)), leased.letters, due=due, stream=stream, signer=signer, interests=interests,
                capped=leased.capped, egress=self._egress, to_outbox=self._to_outbox, slot=self._slot, labels=self._labels,
                heard=self._faults, full=self._full,
            )  # fmt: skip

    async def _can_be_made(self, db: Connection, due: Due) -> bool:
        """Look at what all letters of a campaign need; without it the campaign stops, and the others go on."""
        why = "Its frozen content cannot be read by this version."
        try:
            stream = await self._streams.get(db, due.campaign_id)
            await self._signers.get(db, due.key_id)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is: this campaign's alone)
            stream, why = None, faults.words(error, f"campaign {due.campaign_id}")
        if stream is None:
            await faults.stop(db, due.campaign_id, why)
        return stream is not None


class MessageBatch(Batch):
    """Messages."""

    def __init__(
        self,
        holding: Holding,
        letters: list[tuple[MessageLetter, Signer | Exception | None]],
        erasure_key: bytes,
        tokens: Tokens | None,
        *,
        egress: str,
        to_outbox: bool,
        labels: Sequence[Label],
    ) -> None:
        super().__init__(holding, [letter.id for letter, _ in letters])
        self._letters = deque(letters)
        self._erasure_key = erasure_key
        self._tokens = tokens
        self._egress = egress
        self._to_outbox = to_outbox
        self._labels = labels

    async def prepare(self, pool: Pool, now: datetime) -> Ready | None:
        """Compose the next message; its files are read only now."""
        if not self._letters:
            return None
        letter, signer = self._letters.popleft()
        handed = Handed(
            letter.id, self.holding.fence, None, letter.domain_id, letter.subscriber_id, letter.provider,
            letter.email, letter.email_key, letter.attempts + 1, None, egress=self._egress, settled=self.holding.settle,
        )  # fmt: skip
        files: list[Attachment] = []
        proof = erased_value(letter.email_key, self._erasure_key)
        if isinstance(signer, Exception):
            return Ready(letter.id, proof, handed, None, failure=faults.words(signer, f"letter {letter.id}"))
        try:
            if letter.attachments:
                async with pool.acquire() as db:
                    files = await compose.attachments(db, letter.message_id)
            envelope = compose.message(letter, files, signer, now, tokens=self._tokens, labels=self._labels)
        except CONNECTION_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is: this letter's alone)
            return Ready(letter.id, proof, handed, None, failure=faults.words(error, f"letter {letter.id}"))
        envelope.holds = self.holding.holds
        return Ready(letter.id, proof, handed, envelope)

    async def mark(self, db: Connection, ready: Sequence[Ready]) -> Marked:
        """Mark the next messages of the lease."""
        return await marks.mark_messages(
            db,
            self.holding.fence,
            [(one.id, one.proof) for one in ready],
            egress=self._egress,
            to_outbox=self._to_outbox,
        )


class MessageSource:
    """Transactional letters, confirmations and tests, oldest first."""

    name = "messages"

    def __init__(
        self,
        signers: Signers,
        erasure_key: bytes,
        *,
        lease: timedelta,
        tokens: Tokens | None = None,
        egress: str = "relay",
        to_outbox: bool = False,
        labels: Sequence[Label] = (),
        full: Callable[[], Collection[str]] = tuple,
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        """``full``: to whom this worker has no way, but another does; ``rests``: whether others take all messages now."""
        self._full = full
        self._rests = rests
        self._signers = signers
        self._egress = egress
        self._to_outbox = to_outbox
        self._erasure_key = erasure_key
        self._lease = lease
        self._tokens = tokens
        self._labels = labels

    async def lease(self, pool: Pool, limit: int) -> Batch | None:
        """Lease the messages that have waited longest."""
        if self._rests():
            return None
        async with pool.acquire() as db:
            until = boottime() + self._lease.total_seconds()
            fence, letters = await leases.lease_messages(
                db, min(limit, MESSAGES), egress=self._egress, full=self._full(), lease=self._lease
            )
            if not letters:
                return None
            signed = [(letter, await self._signer(db, letter)) for letter in letters]
        return MessageBatch(
            Holding(fence, until, len(letters)),
            signed,
            self._erasure_key,
            self._tokens,
            egress=self._egress,
            to_outbox=self._to_outbox,
            labels=self._labels,
        )

    async def _signer(self, db: Connection, letter: MessageLetter) -> Signer | Exception | None:
        """Return a message's signer, or why there is none: the others must not wait for it."""
        try:
            return await self._signers.get(db, letter.key_id)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            raise
        except Exception as error:  # noqa: BLE001
            return error
