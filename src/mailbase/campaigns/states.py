"""A campaign's states, and what may be done in each: one table, looked at under the campaign's row lock.

    draft ──schedule──▶ scheduled ──due──▶ sending ──finish──▶ sent
      └────────────────send───────────────────▲
    scheduled | sending ──pause──▶ paused ──resume──▶ where it was
    scheduled | sending | paused ──cancel──▶ cancelled

Only a draft is edited or deleted; what is sent or cancelled stays as it is.
"""

from typing import Final, Literal

from mailbase.errors import Conflict

Status = Literal["draft", "scheduled", "sending", "paused", "sent", "cancelled"]
Act = Literal["edit", "delete", "send", "schedule", "due", "pause", "resume", "cancel", "finish"]

STATUSES: Final[tuple[Status, ...]] = ("draft", "scheduled", "sending", "paused", "sent", "cancelled")
ACTS: Final[tuple[Act, ...]] = ("edit", "delete", "send", "schedule", "due", "pause", "resume", "cancel", "finish")

TRANSITIONS: Final[dict[tuple[Status, Act], Status | None]] = {
    ("draft", "edit"): "draft",
    ("draft", "delete"): None,
    ("draft", "send"): "sending",
    ("draft", "schedule"): "scheduled",
    ("scheduled", "due"): "sending",
    ("scheduled", "pause"): "paused",
    ("sending", "pause"): "paused",
    ("paused", "resume"): None,
    ("scheduled", "cancel"): "cancelled",
    ("sending", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
    ("sending", "finish"): "sent",
}
"""``None``: no state of its own. A deleted campaign is gone; a resumed one is again what it was."""

_DONE: Final[dict[Act, str]] = {
    "edit": "edited",
    "delete": "deleted",
    "send": "sent",
    "schedule": "sent",
    "due": "started",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "finish": "finished",
}
_DRAFTS_ONLY: Final = frozenset({"edit", "delete", "send", "schedule"})


def allow(status: Status, act: Act) -> Status | None:
    """Return the state an act leads to.

    Raises:
        Conflict: ``campaign_not_draft`` for what only a draft allows, else ``campaign_state``.

    """
    if (status, act) not in TRANSITIONS:
        code = "campaign_not_draft" if act in _DRAFTS_ONLY else "campaign_state"
        raise Conflict(f"A campaign that is {status} cannot be {_DONE[act]}.", code=code)
    return TRANSITIONS[status, act]
