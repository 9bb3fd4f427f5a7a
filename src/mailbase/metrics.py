"""What Prometheus reads: requests of this process, and what PostgreSQL knows of all of them.

Requests are counted per process (label ``process``), because a scrape reaches one of several. Letters and jobs are read from the
database, so every process answers the same.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from mailbase.db import Connection

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
_REQUESTS: Final = Counter(
    "mailbase_http_requests",
    "Requests answered by this process.",
    ["process", "method", "route", "status"],
    registry=REGISTRY,
)
_SECONDS: Final = Histogram(
    "mailbase_http_request_seconds",
    "From the request's first byte to the end of its answer.",
    ["process", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)

_FELL_BACK: Final = Counter(
    "mailbase_page_fallbacks",
    "Public pages shown in mailbase's own template, because the owner's failed.",
    ["process", "page"],
    registry=REGISTRY,
)

_SUBMISSIONS: Final = Counter(
    "mailbase_form_submissions",
    "Submissions judged by this process: pass, suspect, bot, limited; refused ones were not even read.",
    ["process", "verdict"],
    registry=REGISTRY,
)
_REASONS: Final = Counter(
    "mailbase_form_submission_reasons",
    "What spoke against submissions; one may have several reasons.",
    ["process", "reason"],
    registry=REGISTRY,
)

METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

LETTERS: Final = """
SELECT substr(key, 10) AS state, sum(n)::float8 AS n FROM counters WHERE key LIKE 'delivery.%' GROUP BY key
"""

WAITING: Final = """
SELECT count(*) FROM deliveries WHERE state IN ('queued', 'deferred') AND message_id IS NOT NULL
"""

JOBS: Final = """
SELECT kind, status, count(*)::float8 AS n FROM jobs GROUP BY kind, status
"""


ATTACKS: Final = """
SELECT count(*) FILTER (WHERE form_id IS NOT NULL)::float8 AS forms, count(*) FILTER (WHERE form_id IS NULL)::float8 AS breaker,
    (SELECT count(*)::float8 FROM submissions WHERE outcome = 'held' AND verdict <> 'pass') AS held
FROM attacks WHERE ended_at IS NULL
"""


@lru_cache(4096)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    process = str(os.getpid())
    return _REQUESTS.labels(process, method, route, str(status)), _SECONDS.labels(process, route)


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request; ``route`` is the template, never the path, which may hold a token."""
    requests, duration = _series(method if method in METHODS else "other", route, status)
    requests.inc()
    duration.observe(seconds)


def page_fell_back(page: str) -> None:
    """Count a page whose own template failed."""
    _FELL_BACK.labels(str(os.getpid()), page).inc()


def submission(verdict: str, reasons: Iterable[str]) -> None:
    """Count one submission to a form and what spoke against it."""
    process = str(os.getpid())
    _SUBMISSIONS.labels(process, verdict).inc()
    for reason in reasons:
        _REASONS.labels(process, reason).inc()


async def exposition(db: Connection) -> bytes:
    """Return everything in Prometheus' text format."""
    fresh = CollectorRegistry()
    letters = Gauge("mailbase_campaign_letters", "Letters of campaigns by state.", ["state"], registry=fresh)
    for row in await db.fetch(LETTERS):
        letters.labels(row["state"]).set(row["n"])
    Gauge("mailbase_messages_waiting", "Transactional letters that wait to be sent.", registry=fresh).set(
        await db.fetchval(WAITING)
    )
    jobs = Gauge("mailbase_jobs", "Jobs by kind and status.", ["kind", "status"], registry=fresh)
    for row in await db.fetch(JOBS):
        jobs.labels(row["kind"], row["status"]).set(row["n"])
    attacks = await db.fetchrow(ATTACKS)
    if attacks is not None:
        Gauge("mailbase_forms_attacked", "Forms that are under attack just now.", registry=fresh).set(attacks["forms"])
        Gauge("mailbase_forms_breaker", "1 while the circuit breaker of all forms is open.", registry=fresh).set(
            attacks["breaker"]
        )
        Gauge("mailbase_submissions_held", "Submissions that wait to be released or deleted.", registry=fresh).set(
            attacks["held"]
        )
    return generate_latest(fresh) + generate_latest(REGISTRY)
