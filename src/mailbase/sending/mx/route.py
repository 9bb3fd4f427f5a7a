"""The way to a recipient's domain: its mail hosts, best first, and whether their certificates must be right.

MX hosts ─────────────▶ those, by preference                     (RFC 5321 § 5.1)
none ─▶ A or AAAA ────▶ the domain itself
"." ──────────────────▶ takes no mail: refused for good          (RFC 7505)
nothing of all this ──▶ deferred; refused for good once that has been the answer for 24 hours
hosts without address ▶ the same: nobody is there
no answer ────────────▶ deferred
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mailbase.sending.dns import Unanswered
from mailbase.sending.mx.mta_sts import Policies
from mailbase.sending.mx.mx_dns import Answers
from mailbase.sending.outcomes import Envelope, Kind, Outcome

CONFIRMED: Final = 86_400.0
"""Seconds a domain must have been missing before its addresses are given up."""
SHORT_OF_IT: Final = 4 * 3600
MOST_HOSTS: Final = 20


class Host(Struct, frozen=True):
    """A mail host; the lower its preference, the better."""

    preference: int
    name: str


class Route(Struct, frozen=True):
    """Hosts, best first; ``verified``: the domain's MTA-STS policy wants TLS with a right certificate."""

    hosts: tuple[Host, ...]
    verified: bool
    expires: float
    """The loop's time until which it holds."""

    @property
    def site(self) -> tuple[bool, frozenset[str]]:
        """What tells this place from others: domains with the same hosts share it."""
        return self.verified, frozenset(host.name for host in self.hosts)


class NoRoute(Exception):
    """There is no way to the domain; says what that makes of its letters."""

    def __init__(
        self, kind: Kind, enhanced: str, reason: str, text: str, *, code: int = 0, retry_after: int | None = None
    ) -> None:
        super().__init__(text)
        self.kind: Kind = kind
        self.enhanced = enhanced
        self.reason = reason
        self.text = text
        self.code = code
        self.retry_after = retry_after

    def outcome(self, envelope: Envelope) -> Outcome:
        """Return what this means for one letter."""
        return Outcome(
            envelope.delivery_id, self.kind, self.code, self.enhanced, self.text, "connect",
            bounce_class="hard" if self.kind == "refused" else None, retry_after=self.retry_after, reason=self.reason,
        )  # fmt: skip


async def find(answers: Answers, policies: Policies, domain: str, *, hostname: str) -> Route:
    """Return the way to a domain. ``hostname`` is our own name: who has it in their records sends to servers before us only.

    Raises:
        NoRoute: there is none.

    """
    try:
        hosts, expires = await _hosts(answers, domain)
    except Unanswered as error:
        raise NoRoute("deferred", "4.4.3", "dns", f"DNS does not answer about {domain}: {error}") from None
    own = min((host.preference for host in hosts if host.name == hostname), default=None)
    if own is not None:
        hosts = tuple(host for host in hosts if host.preference < own)
        if not hosts:
            raise NoRoute("deferred", "4.4.6", "loop", f"this server is itself the best mail host of {domain}")
    policy = await policies.enforced(domain)
    if policy is not None:
        allowed = tuple(host for host in hosts if policy.allows(host.name))
        if not allowed:
            raise NoRoute(
                "deferred", "4.7.5", "mta_sts", f"the MTA-STS policy of {domain} names none of its mail hosts"
            )
        hosts = allowed
    return Route(hosts[:MOST_HOSTS], policy is not None, expires)


async def _hosts(answers: Answers, domain: str) -> tuple[tuple[Host, ...], float]:
    """Return the mail hosts of a domain, and until when that holds."""
    if not domain or domain.startswith("["):
        raise NoRoute("refused", "5.1.2", "bad_domain", "this is not a domain mail can be sent to", code=550)
    found = await answers.get(domain, "MX")
    records = [
        (int(preference), name.rstrip(".")) for preference, name in (text.split(" ", 1) for text in found.answers)
    ]
    if records and all(not name for _, name in records):
        raise NoRoute("refused", "5.1.10", "bad_domain", f"{domain} takes no mail, and says so (null MX)", code=556)
    if hosts := tuple(Host(preference, name) for preference, name in records if name):
        await _somebody(answers, domain, hosts)
        return hosts, found.expires
    addresses = await answers.get(domain, "ADDRESS")
    if addresses.answers:
        return (Host(0, domain),), min(found.expires, addresses.expires)
    raise _nobody(f"{domain} has no mail host and no address", addresses.missing_for)


async def _somebody(answers: Answers, domain: str, hosts: Sequence[Host]) -> None:
    """Look whether any host has an address: most often the first one that is asked.

    Raises:
        NoRoute: none has.
        Unanswered: none has as far as is known, and about one nobody says anything.

    """
    missing_for: float = CONFIRMED
    silence: Unanswered | None = None
    for host in sorted(hosts, key=lambda host: host.preference)[:MOST_HOSTS]:
        try:
            found = await answers.get(host.name, "ADDRESS")
        except Unanswered as error:
            silence = error
            continue
        if found.answers:
            return
        missing_for = min(missing_for, found.missing_for or 0.0)
    if silence is not None:
        raise silence
    raise _nobody(f"none of the mail hosts of {domain} has an address", missing_for)


def _nobody(why: str, missing_for: float | None) -> NoRoute:
    if missing_for is not None and missing_for >= CONFIRMED:
        return NoRoute("refused", "5.1.2", "bad_domain", f"{why}, for a day and more", code=550)
    return NoRoute("deferred", "4.1.2", "bad_domain", why, retry_after=SHORT_OF_IT)
