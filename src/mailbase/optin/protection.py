"""Judging a submission: what speaks against it, and what follows.

::

    bot      the field nobody sees was filled in, or the form was sent sooner than a person can type ─▶ held
    limited  too much for one mailbox or one mail domain ─▶ held
    suspect  one strong reason, or two weak ones (under attack: one) ─▶ held, unless the form wants otherwise
    pass     anything else; weak reasons are noted

Held means: stored with its reasons for the owner to release or delete. The visitor is told the same in every case. What comes without a signed
time passes; a time that is not ours, or was used again and again, does not.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from mailbase import metrics
from mailbase.audience.addresses import Address
from mailbase.audience.forms import Form
from mailbase.db import Connection, Pool
from mailbase.errors import FieldError, Invalid
from mailbase.optin import address_kinds, attacks, limits, mailboxes, proof
from mailbase.optin.address_hints import PROVIDERS
from mailbase.optin.mail_hosts import MailHosts
from mailbase.optin.words import mistakes
from mailbase.tokens import Tokens
from mailbase.vault import keyed_hash

if TYPE_CHECKING:
    from redis.asyncio import Redis
else:
    Redis = Any

Verdict = Literal["pass", "suspect", "bot", "limited"]

BOT: Final = frozenset({"honeypot", "too_fast"})
LIMITED: Final = frozenset({"limited_address", "limited_domain"})
WEAK: Final = frozenset({"old_time", "no_origin", "no_agent"})
OLDEST_TIME: Final = 86_400
AHEAD: Final = 5
"""Seconds by which another machine's clock may be before ours."""
_BIG: Final = frozenset(PROVIDERS)


class Judgement(Struct, frozen=True):
    """What is thought of a submission, and why."""

    verdict: Verdict = "pass"
    reasons: tuple[str, ...] = ()


PASSED: Final = Judgement()
"""Nothing speaks against it."""


class Given(Struct, frozen=True, kw_only=True):
    """What a request brings beside its answers."""

    honeypot: bool = False
    time: str | None = None
    """The signed time from the page."""
    proof: str | None = None
    origin: bool = True
    """Whether a page says it holds the form: ``Origin`` or ``Referer``."""
    agent: bool = True
    """Whether a program says its name."""
    whose: str = ""
    """Whose use this is, see ``limits.whose``."""
    takes_mail: bool | None = None
    """Whether the address's domain takes mail; None: not known."""


class Guard:
    """What one process needs to judge, and what it knows of attacks; a few seconds old at most."""

    def __init__(
        self,
        *,
        redis: Redis,
        tokens: Tokens,
        secrets: Sequence[str],
        erasure_key: bytes,
        hosts: MailHosts | None = None,
        counting: bool = True,
        seconds: float = 5.0,
    ) -> None:
        """``hosts`` None: DNS is not asked. ``counting`` False lifts everything that counts: for load tests."""
        self.redis = redis
        self.tokens = tokens
        self.secrets = secrets
        self.erasure_key = erasure_key
        self.hosts = hosts
        self.counting = counting
        self._seconds = seconds
        self._due = 0.0
        self._attacked: frozenset[int | None] = frozenset()
        self._refused: Counter[tuple[int, str]] = Counter()

    def refused(self, form_id: int, reason: str) -> None:
        """Count what was not even read; written down with the next refresh, for a flood shall not become rows."""
        metrics.submission("refused", (reason,))
        self._refused[form_id, reason] += 1

    async def refresh(self, pool: Pool) -> None:
        """Look for attacks and write counts down, when it is time again. Call it while no connection is held."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._seconds
        refused, self._refused = self._refused, Counter()
        async with pool.acquire() as db, db.transaction():
            if self.counting:
                await attacks.watch(db)
                self._attacked = frozenset(one.form_id for one in await attacks.going_on(db))
            await attacks.count(db, refused)

    def is_open(self) -> bool:
        """Tell whether the circuit breaker is open: all forms are attacked."""
        return None in self._attacked

    def is_attacked(self, form_id: int) -> bool:
        """Tell whether this form is, or all of them."""
        return form_id in self._attacked or self.is_open()

    def wants_proof(self, form: Form) -> bool:
        """Tell whether this form asks for proof of work now."""
        wish = form.definition.protection.proof_of_work
        return wish == "always" or (wish == "auto" and self.is_attacked(form.id))


def refuse(form: Form, address: Address, *, locale: str | None) -> None:
    """Refuse what the form's owner does not want at all.

    Raises:
        Invalid: ``disposable_address`` or ``role_address``; it tells nothing about anybody, only about the address itself.

    """
    protection = form.definition.protection
    code = None
    if protection.disposable == "deny" and address_kinds.is_disposable(address):
        code = "disposable_address"
    elif protection.role == "deny" and address_kinds.is_role(address):
        code = "role_address"
    if code:
        raise Invalid(code="invalid_input", errors=[FieldError("email", code, getattr(mistakes(locale), code))])


async def judge(
    db: Connection | None,
    guard: Guard,
    form: Form,
    address: Address,
    given: Given,
    *,
    over: Sequence[str] | None = None,
    now: float | None = None,
) -> Judgement:
    """Return what is thought of a submission; counts it and uses its proof up.

    ``over`` is what :func:`count` found, where that was done already. ``db`` may be None where no proof is wanted.
    """
    at = time.time() if now is None else now
    if over is None:
        over = await count(guard, address, given, now=at)
    reasons = [*_of_the_page(guard.tokens, form, given, at), *_of_the_address(form, address, given), *over]
    if not BOT.intersection(reasons):
        reasons += await _of_proof(db, guard, form, given)
    judgement = Judgement(_verdict(guard, form, reasons), tuple(reasons))
    metrics.submission(judgement.verdict, judgement.reasons)
    return judgement


def _verdict(guard: Guard, form: Form, reasons: Sequence[str]) -> Verdict:
    found = frozenset(reasons)
    if found & BOT:
        return "bot"
    if found & LIMITED:
        return "limited"
    weak = found & WEAK
    suspicious = found - WEAK or len(weak) > 1 or (weak and guard.is_attacked(form.id))
    return "suspect" if suspicious and form.definition.protection.quarantine else "pass"


def _of_the_page(tokens: Tokens, form: Form, given: Given, at: float) -> list[str]:
    reasons = ["honeypot"] if given.honeypot else []
    if given.time is not None:
        numbers = tokens.read("form_time", given.time, 2)
        if numbers is None or numbers[0] != form.id or numbers[1] > at + AHEAD:
            reasons.append("forged_time")
        elif at - numbers[1] < form.definition.protection.min_seconds:
            reasons.append("too_fast")
        elif at - numbers[1] > OLDEST_TIME:
            reasons.append("old_time")
    # Every browser names the page's origin with a POST; which of them may is asked elsewhere.
    if form.definition.allowed_origins and not given.origin:
        reasons.append("no_origin")
    if not given.agent:
        reasons.append("no_agent")
    return reasons


def _of_the_address(form: Form, address: Address, given: Given) -> list[str]:
    protection = form.definition.protection
    reasons = []
    if protection.disposable != "allow" and address_kinds.is_disposable(address):
        reasons.append("disposable")
    if protection.role != "allow" and address_kinds.is_role(address):
        reasons.append("role")
    if protection.mx and given.takes_mail is False:
        reasons.append("no_mail_host")
    if address_kinds.looks_like_another(address):
        reasons.append("look_alike")
    return reasons


async def count(guard: Guard, address: Address, given: Given, *, now: float | None = None) -> list[str]:
    """Count a submission against everything that has a number, whatever its form; return what there is too much of."""
    if not guard.counting:
        return []
    mailbox = mailboxes.of(address)
    hashed = keyed_hash(guard.erasure_key, mailbox.family or mailbox.key).hex()[:32]
    per_domain = limits.PER_PROVIDER if address.domain in _BIG else limits.PER_DOMAIN
    uses = [(limits.PER_ADDRESS, hashed), (per_domain, address.domain)]
    names = ["limited_address", "limited_domain"]
    if given.time is not None:
        token = hashlib.blake2s(given.time.encode(errors="replace"), digest_size=16).hexdigest()
        uses += [(limits.PER_TIME, token), (limits.PER_TIME_AND_IP, f"{token}:{given.whose}")]
        names += ["replayed_time", "replayed_time"]
    over = await limits.use(guard.redis, uses, now=now)
    return list(dict.fromkeys(name for name, seconds in zip(names, over, strict=True) if seconds))


async def _of_proof(db: Connection | None, guard: Guard, form: Form, given: Given) -> list[str]:
    if not guard.wants_proof(form):
        return ["attack"] if guard.is_open() else []
    if not given.proof or db is None:
        return ["no_proof"]
    found = await proof.use(db, guard.secrets, form.id, given.proof)
    return [] if found == "right" else [f"{found}_proof"]
