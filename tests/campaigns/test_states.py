"""What may be done with a campaign when: every legal step, and every illegal one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mailbase.campaigns import states
from mailbase.errors import Conflict

LEGAL = {
    "edit": {"draft": "draft"},
    "delete": {"draft": None},
    "send": {"draft": "sending"},
    "schedule": {"draft": "scheduled"},
    "due": {"scheduled": "sending"},
    "pause": {"scheduled": "paused", "sending": "paused"},
    "resume": {"paused": None},
    "cancel": {"scheduled": "cancelled", "sending": "cancelled", "paused": "cancelled"},
    "finish": {"sending": "sent"},
}


@pytest.mark.parametrize(("status", "act"), list(itertools.product(states.STATUSES, states.ACTS)))
def test_every_pair(status, act):
    """A step leads where the contract says, or is refused as a conflict."""
    if status in LEGAL[act]:
        assert states.allow(status, act) == LEGAL[act][status]
    else:
        with pytest.raises(Conflict) as refused:
            states.allow(status, act)
        assert refused.value.code in {"campaign_not_draft", "campaign_state"}


async def test_every_illegal_request_is_a_conflict_and_changes_nothing(client, db, written, people):
    """Each act of the API in each state either works or answers 409 and leaves the state alone."""
    await people(1)
    requests = {
        "edit": lambda at: client.patch(at, json={"name": "Other"}),
        "delete": client.delete,
        "send": lambda at: client.post(f"{at}/send"),
        "schedule": lambda at: client.post(f"{at}/send", json={"at": "2099-01-01T00:00:00Z"}),
        "pause": lambda at: client.post(f"{at}/pause"),
        "resume": lambda at: client.post(f"{at}/resume"),
        "cancel": lambda at: client.post(f"{at}/cancel"),
    }
    for (act, request), status in itertools.product(requests.items(), states.STATUSES):
        campaign = await written()
        await db.execute(
            "UPDATE campaigns SET status = $2, paused_from = CASE WHEN $2 = 'paused' THEN 'sending' END WHERE id = $1",
            campaign.id,
            status,
        )
        answer = await request(f"/v1/campaigns/{campaign.id}")
        now = await db.fetchval("SELECT status FROM campaigns WHERE id = $1", campaign.id)
        if status in LEGAL[act]:
            assert answer.status_code in {200, 202, 204}, (status, act, answer.text)
            assert now == (LEGAL[act][status] or {"delete": None, "resume": "sending"}[act])
        else:
            assert answer.status_code == 409, (status, act, answer.text)
            assert answer.headers["content-type"].startswith("application/problem+json")
            assert now == status


@examples(max_examples=25)
@given(st.lists(st.sampled_from(["send", "schedule", "pause", "resume", "cancel", "edit"]), max_size=8))
async def test_any_sequence_of_acts_keeps_to_the_model(client, written, people, acts):
    """Whatever is asked in whatever order, a campaign is where the state machine says, and paused ones return to where they were."""
    await people(1)
    campaign = await written()
    at = f"/v1/campaigns/{campaign.id}"
    status, before = "draft", None
    for act in acts:
        match act:
            case "schedule":
                answer = await client.post(f"{at}/send", json={"at": "2099-01-01T00:00:00Z"})
            case "edit":
                answer = await client.patch(at, json={"name": "Other"})
            case _:
                answer = await client.post(f"{at}/{act}")
        if status not in LEGAL[act]:
            assert answer.status_code == 409
        else:
            assert answer.status_code < 300, answer.text
            if act == "pause":
                before = status
            status = before if act == "resume" else LEGAL[act][status]
            assert answer.json()["status"] == status
        assert (await client.get(at)).json()["status"] == status
