"""The forms: is anybody attacking them, and does anything wait to be looked at."""

from mailbase.db import Connection
from mailbase.doctor.findings import About, Finding
from mailbase.optin import attacks, submissions

_FORMS = About("forms")


async def examine(db: Connection) -> list[Finding]:
    """Judge attacks and what is held."""
    found: list[Finding] = []
    for one in await attacks.going_on(db):
        whose = f"Form {one.form_id} is" if one.form_id else "All forms are"
        text = (
            f"{whose} attacked since {one.began_at:%Y-%m-%d %H:%M} UTC: {one.confirmed} of {one.letters} letters were confirmed,"
            f" {one.caught} submissions caught within ten minutes."
        )
        advice = "They go on, asking browsers for proof of work; see GET /v1/protection and docs/keep-bots-out.md."
        found.append(_FORMS.warning("attack", text, advice))
    held = await submissions.count(db, outcome="held", verdict="suspect")
    if held:
        text = f"{held} suspicious submissions are held."
        found.append(_FORMS.warning("held", text, "Release or delete them: GET /v1/submissions?outcome=held."))
    return found or [_FORMS.ok("forms", "Nobody attacks them, and nothing is held.")]
