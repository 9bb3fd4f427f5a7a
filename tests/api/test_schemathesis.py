"""Schemathesis over the running process: no 5xx, no answer that the OpenAPI document does not know."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from api_process import KEY, SECRET, Start, free_port, home, ready, start, until
from mailbase import db as database
from mailbase.tokens import Tokens

__all__ = ["home", "start"]

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method"
EACH = 12
MJML = "<mjml><mj-body><mj-section><mj-column><mj-text>Hello {{ subscriber.email }}</mj-text></mj-column></mj-section></mj-body></mjml>"

LETTERS = """
INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, state)
SELECT 1, subscribers.id, 1, 'sent' FROM subscribers
"""
JOBS = """
INSERT INTO jobs (kind, status) SELECT kind, status FROM unnest(ARRAY['import', 'bulk']) AS kind, unnest(ARRAY['queued', 'done', 'failed', 'cancelled']) AS status
"""


def furnish(port: int) -> list[str]:
    """Put a few of every noun into the instance, through its own doors, and return the forms' keys."""
    consent = {"purpose": "newsletter", "text": "I want to receive the newsletter."}
    sender = {"name": "Bakery", "email": "news@example.com"}
    forms = []
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    ) as owner:

        def make(path: str, body: dict) -> dict:
            answer = owner.post(path, json=body)
            assert answer.status_code == 201, f"{path}: {answer.text}"
            return answer.json()

        make("/v1/domains", {"name": "example.com"})
        assert (
            owner.patch(
                "/v1/settings", json={"default_from": sender, "postal_address": "1 Mill Lane, Bath"}
            ).status_code
            == 200
        )
        for n in range(EACH):
            make("/v1/interests", {"slug": f"interest-{n}", "name": f"Interest {n}"})
            make(
                "/v1/subscribers",
                {
                    "email": f"reader{n}@example.org",
                    "double_opt_in": False,
                    "consent": consent,
                    "interests": [f"interest-{n}"],
                },
            )
            make("/v1/suppressions", {"email": f"never{n}@example.org", "reason": "manual"})
            make("/v1/keys", {"name": f"key {n}", "scopes": ["stats:read"]})
            make("/v1/signal-sources", {"provider": "brevo", "secret": f"the password of {n}"})
            make(
                "/v1/campaigns",
                {"name": f"Campaign {n}", "from": sender, "subject": "Hello", "mjml": MJML, "audience": {"all": True}},
            )
            gift = {"title": "Recipes", "url": "https://example.com/recipes"} if n % 2 else None
            form = make(
                "/v1/forms",
                {"name": f"Form {n}", "from": sender, "interests": [f"interest-{n}"], "lead_magnet": gift},
            )
            make(f"/v1/forms/{form['id']}/till", {"name": f"Till {n}"})
            owner.post(f"/f/{form['key']}", json={"email": f"bot{n}@example.org", "_hp": "x"}).raise_for_status()
            forms.append(form["key"])
    return forms


async def send_some(url: str) -> None:
    connection = await database.connect(url)
    await connection.execute(LETTERS)
    await connection.execute(JOBS)
    await connection.close()


@pytest.mark.timeout(300)
def test_every_answer_is_documented(start: Start, database_url: str, home: Path):
    """Generated requests, good and bad, over every operation and mostly over things that exist, find no surprise."""
    port = free_port()
    process = start(port, MAILBASE_DNS_SERVERS="127.0.0.1:9", MAILBASE_FORM_LIMITS="off")
    until(lambda: ready(port) or process.poll() is not None, "the API did not answer")
    forms = furnish(port)
    asyncio.run(send_some(database_url))
    tokens = Tokens([SECRET])
    signed = [
        token
        for n in range(1, 5)
        for token in (
            tokens.sign("letter", n),
            tokens.sign("view", n),
            tokens.sign("unsubscribe", n, n),
            tokens.sign("preferences", n, 0),
            tokens.sign("confirm", n, 4102444800),
            tokens.sign("download", n, n, 4102444800),
            tokens.sign("till", n),
        )
    ]
    numbers = [
        "campaign_id",
        "subscriber_id",
        "form_id",
        "interest_id",
        "domain_id",
        "suppression_id",
        "job_id",
        "import_id",
        "key_id",
        "delivery_id",
        "message_id",
        "source_id",
        "mail_id",
        "till_id",
        "submission_id",
    ]
    # A mail is text to whoever makes one up.
    (home / "mails.py").write_text(
        "import schemathesis\nschemathesis.serializer.alias('message/rfc822', 'text/plain')\n"
    )
    lines = [
        'hooks = "mails.py"',
        "[dictionaries]",
        f"ids = {{ values = {json.dumps(list(range(1, EACH + 1)))} }}",
        f"keys = {{ values = {json.dumps(forms)} }}",
        f"tokens = {{ values = {json.dumps(signed)} }}",
        "[parameters]",
    ]
    lines += [f'"path.{name}" = {{ dictionary = "ids", probability = 0.8 }}' for name in numbers]
    lines += [
        '"path.key" = { dictionary = "keys", probability = 0.8 }',
        '"path.token" = { dictionary = "tokens", probability = 0.8 }',
    ]
    (home / "schemathesis.toml").write_text("\n".join(lines))

    command = [
        str(Path(sys.executable).with_name("st")),
        "--config-file",
        str(home / "schemathesis.toml"),
        "run",
        f"http://127.0.0.1:{port}/schema/openapi.json",
    ]
    options = [
        "--header",
        f"Authorization: Bearer {KEY}",
        "--checks",
        CHECKS,
        "--phases",
        "examples,coverage",
        "--workers",
        "2",
        "--seed",
        "7",
        "--no-color",
    ]
    done = subprocess.run([*command, *options], cwd=home, capture_output=True, text=True, check=False)

    log = (home / "api.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert "Traceback" not in log
    assert process.poll() is None
