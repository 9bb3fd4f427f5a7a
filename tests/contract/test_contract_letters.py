"""The contract's domains, campaigns and messages, called exactly as it is written."""

import re

import pytest

pytestmark = pytest.mark.usefixtures("domain")

SENDER = {"name": "Shop", "email": "news@shop.example"}
CONSENT = {"purpose": "newsletter", "text": "Yes."}
DRAFT = {"name": "C", "from": SENDER, "subject": "Hi", "html": "<p>Hello</p>", "audience": {"all": True}}


@pytest.fixture
async def domain(client):
    made = await client.post("/v1/domains", json={"name": "shop.example"})
    assert made.status_code == 201, made.text
    return made.json()


async def test_a_domain_says_what_to_publish(domain):
    """A domain comes with its key, its records (absolute names, unquoted values) and its warm-up."""
    assert {"id", "name", "status", "dkim", "dns", "warmup"} <= set(domain)
    assert domain["status"] == "pending"
    assert {"selector", "algorithm", "public_key"} <= set(domain["dkim"])
    assert {"preset", "day", "cap_today", "sent_today", "state"} <= set(domain["warmup"])
    purposes = {record["purpose"]: record for record in domain["dns"]}
    assert {"dkim", "spf", "dmarc"} <= set(purposes)
    assert purposes["dkim"]["name"] == f"{domain['dkim']['selector']}._domainkey.shop.example"
    assert domain["dkim"]["public_key"] in purposes["dkim"]["value"]
    assert not any('"' in record["value"] for record in domain["dns"])


async def test_a_campaign_needs_only_what_the_contract_names(client):
    """`name`, `from`, `subject`, one body and `audience` make a draft; `send` takes no body and no content type."""
    await client.post("/v1/subscribers", json={"email": "a@example.com", "double_opt_in": False, "consent": CONSENT})
    made = await client.post("/v1/campaigns", json=DRAFT)
    assert (made.status_code, made.json()["status"]) == (201, "draft")
    path = f"/v1/campaigns/{made.json()['id']}"
    sent = await client.post(f"{path}/send")
    assert (sent.status_code, sent.json()["status"]) == (202, "sending")
    assert (await client.post(f"{path}/send")).status_code == 409
    assert (await client.post(f"{path}/pause")).json()["status"] == "paused"
    assert (await client.post(f"{path}/resume")).json()["status"] == "sending"
    assert (await client.post(f"{path}/cancel")).json()["status"] == "cancelled"
    assert (await client.delete(path)).status_code == 409


async def test_statistics_have_these_fields(client):
    """The statistics are the contract's JSON, from the first moment on."""
    made = (await client.post("/v1/campaigns", json=DRAFT)).json()
    stats = (await client.get(f"/v1/campaigns/{made['id']}/stats")).json()
    assert set(stats) == {
        "campaign_id", "status", "recipients", "deliveries", "bounces", "opens", "clicks", "unsubscribes", "complaints",
        "rates", "links", "timeline", "providers",
    }  # fmt: skip
    assert set(stats["deliveries"]) == {"queued", "sent", "deferred", "failed", "bounced", "unknown", "skipped"}
    assert set(stats["rates"]) == {
        "delivery", "open", "click", "click_to_open", "unsubscribe", "bounce", "complaint",
    }  # fmt: skip
    assert set(stats["opens"]) == set(stats["clicks"]) == {"total", "unique", "unique_human", "unique_machine"}


async def test_a_preview_opens_nothing(client, anonymous):
    """Who may look at a campaign gets no link that speaks for a subscriber, and is not warned of links of our own."""
    person = await client.post(
        "/v1/subscribers", json={"email": "a@example.com", "double_opt_in": False, "consent": CONSENT}
    )
    made = (await client.post("/v1/campaigns", json={**DRAFT, "html": '<a href="{{ view_url }}">x</a>'})).json()
    path = f"/v1/campaigns/{made['id']}/preview"
    seen = (await client.post(path, json={"subscriber_id": person.json()["id"]})).json()
    assert set(seen) == {"subject", "html", "text", "size", "warnings"}
    links = re.findall(r'href="http://mailbase\.test(/[upv]/[^"]+)"', seen["html"])
    assert len(links) >= 3
    for link in links:
        assert (await anonymous.post(link)).status_code in {404, 405}
    assert (await client.get(f"/v1/subscribers/{person.json()['id']}")).json()["status"] == "active"
    assert "insecure_link" not in {warning["code"] for warning in seen["warnings"]}


async def test_a_message_may_say_where_answers_go(client, db):
    """`Reply-To` among a message's headers is an address; anything else there is refused, and so is a header of ours."""
    body = {"from": SENDER, "to": "ann@example.com", "subject": "Order {{ n }}", "text": "x", "variables": {"n": 1}}
    made = await client.post(
        "/v1/messages", json={**body, "headers": {"reply-to": "Help@Shop.Example", "X-Order": "1"}}
    )
    assert made.status_code == 202, made.text
    assert set(made.json()) == {"id", "status"}
    row = await db.fetchrow("SELECT reply_to, headers FROM messages")
    assert (row["reply_to"], row["headers"]) == ("Help@shop.example", {"X-Order": "1"})
    for headers in ({"Reply-To": "a@b.example\r\nBcc: c@d.example"}, {"Reply-To": "x"}, {"Bcc": "c@d.example"}):
        refused = await client.post("/v1/messages", json={**body, "headers": headers})
        assert refused.status_code == 422, refused.text


async def test_everything_wrong_with_a_domain_is_said_at_once(client):
    """The name, the selector, the key and the schedule are one 422."""
    bad = {"name": "no domain", "selector": "-", "dkim_private_key": "x", "warmup": {"preset": "custom"}}
    answer = await client.post("/v1/domains", json=bad)
    assert answer.status_code == 422, answer.text
    wanted = {"name", "selector", "dkim_private_key", "warmup.schedule"}
    assert {error["field"] for error in answer.json()["errors"]} == wanted


async def test_a_letter_asks_no_third_party_for_a_font_nobody_chose(client):
    """MJML brings a web font along only where the template names one."""
    template = (
        "<mjml><mj-body><mj-section><mj-column><mj-text {}>Hello</mj-text></mj-column></mj-section></mj-body></mjml>"
    )

    async def html(attribute: str) -> str:
        body = {**DRAFT, "mjml": template.format(attribute)}
        del body["html"]
        made = await client.post("/v1/campaigns", json=body)
        return (await client.post(f"/v1/campaigns/{made.json()['id']}/preview")).json()["html"]

    assert "googleapis" not in await html("")
    assert "family=Open+Sans" in await html('font-family="Open Sans, Arial"')


async def test_everything_wrong_with_a_campaign_is_said_at_once(client):
    """The name, the subject, the sender, the audience, a header and the template are one 422."""
    bad = {
        "name": "",
        "subject": "x" * 999,
        "from": {"name": "x\r\ny", "email": "a@foreign.example"},
        "html": "{{ nonsense }}",
        "audience": {"interests": ["nope"]},
        "headers": {"List-Unsubscribe": "x"},
    }
    answer = await client.post("/v1/campaigns", json=bad)
    assert answer.status_code == 422, answer.text
    wanted = {"name", "subject", "from.name", "from.email", "html", "audience.interests", "headers.List-Unsubscribe"}
    assert {error["field"] for error in answer.json()["errors"]} == wanted
