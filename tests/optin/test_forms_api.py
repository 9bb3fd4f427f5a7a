"""Forms as their owner keeps them."""

from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience.form_definition import origin_of
from optin.optin_kit import FORM, make_form

MINIMAL = {"name": "Minimal", "from": {"name": "M", "email": "m@news.example.com"}, "fields": []}


async def test_a_name_and_a_sender_make_a_form(client):
    """The rest has defaults: double opt-in, inline, any origin."""
    answer = await client.post("/v1/forms", json=MINIMAL)
    assert answer.status_code == 201
    form = answer.json()
    assert form["double_opt_in"] is True
    assert form["display"]["mode"] == "inline"
    assert form["allowed_origins"] == []
    assert len(form["key"]) >= 16
    assert form["hosted_url"] == f"http://mailbase.test/f/{form['key']}"
    assert f'data-mailbase-form="{form["key"]}"' in form["embed_html"]
    assert "http://mailbase.test/embed/v1.js" in form["embed_html"]


async def test_a_form_is_kept_as_it_was_written(client):
    """What was posted comes back, and again from the list and by its id."""
    form = await make_form(client)
    for name in ("name", "interests", "interest_choice", "consents", "from"):
        assert form[name] == FORM[name]
    assert (await client.get(f"/v1/forms/{form['id']}")).json() == form
    assert (await client.get("/v1/forms", params={"include_total": "true"})).json() == {
        "data": [form],
        "next_cursor": None,
        "total": 1,
    }


async def test_a_patch_replaces_what_it_names(client):
    """Other fields, the key and the address stay."""
    form = await make_form(client)
    changed = (
        await client.patch(f"/v1/forms/{form['id']}", json={"name": "New", "interests": ["sale"], "locale": "ru"})
    ).json()
    assert (changed["name"], changed["interests"], changed["locale"]) == ("New", ["sale"], "ru")
    for same in ("key", "consents", "fields", "from", "created_at"):
        assert changed[same] == form[same]


async def test_a_deleted_form_is_gone(client, anonymous):
    """For its owner and for visitors."""
    form = await make_form(client)
    assert (await client.delete(f"/v1/forms/{form['id']}")).status_code == 204
    assert (await client.get(f"/v1/forms/{form['id']}")).status_code == 404
    assert (await anonymous.get(f"/f/{form['key']}")).status_code == 404


async def test_a_form_outlives_a_deleted_interest(client):
    """The interest is simply no longer asked for."""
    form = await make_form(client)
    interest = next(one for one in (await client.get("/v1/interests")).json()["data"] if one["slug"] == "news")
    await client.delete(f"/v1/interests/{interest['id']}")
    assert (await client.get(f"/v1/forms/{form['id']}")).json()["interests"] == ["sale"]


UNWORKABLE = [
    ({"name": " "}, "name", "blank"),
    ({"fields": [{"name": "1x", "label": "X"}]}, "fields.0.name", "invalid_name"),
    ({"fields": [{"name": "interests", "label": "X"}]}, "fields.0.name", "reserved_name"),
    ({"fields": [{"name": "altcha", "label": "X"}]}, "fields.0.name", "reserved_name"),
    ({"fields": [{"name": "a"}, {"name": "a"}]}, "fields.1.name", "duplicate"),
    ({"fields": [{"name": "a", "type": "select"}]}, "fields.0.options", "invalid_options"),
    ({"fields": [{"name": "a", "options": ["x"]}]}, "fields.0.options", "not_applicable"),
    ({"fields": [{"name": "email", "type": "text"}]}, "fields.0.type", "invalid_type"),
    ({"consents": [{"purpose": "Bad one", "text": "x"}]}, "consents.0.purpose", "invalid_purpose"),
    (
        {"consents": [{"purpose": "a", "text": "x", "policy_url": "javascript:alert(1)"}]},
        "consents.0.policy_url",
        "invalid_url",
    ),
    ({"interests": ["nowhere"]}, "interests.0", "unknown_interest"),
    ({"allowed_origins": ["shop.example"]}, "allowed_origins.0", "invalid_origin"),
    ({"allowed_origins": ["https://shop.example/path"]}, "allowed_origins.0", "invalid_origin"),
    ({"redirects": {"pending": "javascript:alert(1)"}}, "redirects.pending", "invalid_url"),
    ({"redirects": {"confirmed": "//evil.example"}}, "redirects.confirmed", "invalid_url"),
    (
        {"allowed_origins": ["https://shop.example"], "redirects": {"pending": "https://evil.example/"}},
        "redirects.pending",
        "origin_not_allowed",
    ),
    (
        {"allowed_origins": ["https://shop.example"], "redirects": {"pending": "https://shop.example@evil.example/"}},
        "redirects.pending",
        "invalid_url",
    ),
    ({"fields": [{"name": "email", "type": "email", "step": 2}]}, "fields.0.step", "not_applicable"),
    ({"fields": [{"name": "a", "step": 3}], "double_opt_in": False}, "fields.0.step", "not_applicable"),
    ({"fields": [{"name": "a", "year": "optional"}]}, "fields.0.year", "not_applicable"),
    ({"fields": [{"name": "a", "value": "x"}]}, "fields.0.value", "not_applicable"),
    ({"fields": [{"name": "a", "type": "hidden", "required": True}]}, "fields.0.required", "not_applicable"),
    ({"fields": [{"name": "a", "type": "hidden", "step": 2}]}, "fields.0.step", "not_applicable"),
    ({"fields": [{"name": "a", "type": "hidden", "value": "x\ny"}]}, "fields.0.value", "too_long"),
    ({"display": {"mode": "inline", "trigger": {"exit": True}}}, "display.trigger", "not_applicable"),
    ({"display": {"mode": "popup", "trigger": {}}}, "display.trigger", "invalid_trigger"),
    ({"display": {"mode": "bar", "trigger": {"delay": 2, "exit": True}}}, "display.trigger", "invalid_trigger"),
    ({"display": {"mode": "popup", "trigger": {"exit": False}}}, "display.trigger.exit", "invalid_trigger"),
    ({"display": {"mode": "popup", "trigger": {"delay": 601}}}, "display.trigger.delay", "out_of_range"),
    ({"display": {"mode": "popup", "trigger": {"scroll": 1.1}}}, "display.trigger.scroll", "out_of_range"),
    ({"display": {"mode": "popup", "trigger": {"click": " "}}}, "display.trigger.click", "invalid_selector"),
    ({"display": {"mode": "popup", "every": "two weeks"}}, "display.every", "invalid_period"),
    ({"lead_magnet": {"title": ""}}, "lead_magnet.title", "blank"),
    ({"lead_magnet": {"title": "x", "url": "data:text/html,x"}}, "lead_magnet.url", "invalid_url"),
    ({"protection": {"min_seconds": 4}}, "protection.min_seconds", "out_of_range"),
    ({"locale": "not a language"}, "locale", "invalid_locale"),
    ({"from": {"name": "M", "email": "nobody"}}, "from.email", "invalid_email"),
    ({"from": {"name": "a\r\nBcc: x@y.example", "email": "m@news.example.com"}}, "from.name", "invalid_name"),
    ({"from": None}, "from", "sender_missing"),
    ({"confirmation": {"mjml": "<mjml><mj-body></mj-body></mjml>"}}, "confirmation.mjml", "missing_confirm_url"),
    ({"confirmation": {"subject": "{{ nobody }}"}}, "confirmation.subject", "unknown_variable"),
    (
        {"confirmation": {"mjml": "<mjml><mj-body>{{ confirm_url }</mj-body></mjml>"}},
        "confirmation.mjml",
        "template_error",
    ),
]


async def test_what_cannot_work_is_refused(client):
    """A 422 names the field and says why."""
    for changes, field, code in UNWORKABLE:
        answer = await client.post("/v1/forms", json={**MINIMAL, **changes})
        assert answer.status_code == 422, changes
        assert (field, code) in [(error["field"], error["code"]) for error in answer.json()["errors"]]


async def test_everything_wrong_is_said_at_once(client):
    """One answer for all fields."""
    answer = await client.post("/v1/forms", json={**MINIMAL, "name": "", "locale": "?", "display": {"every": "x"}})
    assert {error["field"] for error in answer.json()["errors"]} == {"name", "locale", "display.every"}


async def test_what_nobody_knows_is_refused(client):
    """Never accepted and ignored, wherever it stands."""
    for unknown, status in (
        ({"anything": {}}, 400),
        ({"display": {"mode": "curtain"}}, 422),
        ({"display": {"mode": "popup", "trigger": {"moon": "full"}}}, 400),
        ({"fields": [{"name": "a", "step": 4}]}, 422),
        ({"protection": {"captcha": True}}, 400),
    ):
        assert (await client.post("/v1/forms", json={**MINIMAL, **unknown})).status_code == status, unknown


async def test_a_form_that_opens_by_itself_says_when(client):
    """Ten seconds where nothing else is said, and never in the first one."""
    for display, trigger in (
        ({"mode": "popup"}, {"delay": 10}),
        ({"mode": "slide_in", "trigger": {"scroll": 0.5}}, {"scroll": 0.5}),
        ({"mode": "bar", "trigger": {"delay": 0}}, {"delay": 1}),
        ({"mode": "popup", "trigger": {"click": "#join"}, "every": "12h"}, {"click": "#join"}),
    ):
        form = (await client.post("/v1/forms", json={**MINIMAL, "display": display})).json()
        assert form["display"] == {"every": "15d", **display, "trigger": trigger}
        assert (await client.get(f"/v1/forms/{form['id']}")).json()["display"] == form["display"]


async def test_a_sender_may_come_from_the_settings(client):
    """With a default sender a form needs none of its own."""
    await client.patch("/v1/settings", json={"default_from": {"name": "S", "email": "s@news.example.com"}})
    assert (await client.post("/v1/forms", json={"name": "x"})).status_code == 201


@given(st.text(max_size=60))
def test_an_origin_is_scheme_and_host_or_nothing(text):
    """Whatever is given, an origin never carries a path, a user or a second line."""
    for url in (text, f"https://{text}", f"http://shop.example{text}"):
        origin = origin_of(url)
        assert origin is None or (
            origin.startswith(("http://", "https://"))
            and origin.count("/") == 2
            and "@" not in origin
            and not set(origin) & set(" \r\n\t?#\\")
        )


def test_an_origin_is_spelled_as_browsers_do():
    """Lower case, no standard port, A-labels."""
    assert origin_of("HTTPS://Shop.Example:443/x?y#z") == "https://shop.example"
    assert origin_of("http://localhost:8000") == "http://localhost:8000"
    assert origin_of("https://bücher.example") == "https://xn--bcher-kva.example"


async def test_a_trigger_is_something_a_browser_can_look_for(client):
    """What is no CSS selector is refused by its field; CSS our parser knows less of than browsers is taken."""
    for text in ("#open", ".a > b, button[data-x='#1']", "a:focus-visible", ":scope a:lang(de)", "a:has(> img)"):
        display = {"mode": "popup", "trigger": {"click": text}}
        assert (await client.post("/v1/forms", json=MINIMAL | {"display": display})).status_code == 201, text
    for text in ("", "a[", "javascript:x", "<b>", "#1", "a || b", "a:nonsense", "a,", "x" * 201, "a::before("):
        refused = await client.post(
            "/v1/forms", json=MINIMAL | {"display": {"mode": "popup", "trigger": {"click": text}}}
        )
        assert refused.status_code == 422, text
        assert [error["field"] for error in refused.json()["errors"]] == ["display.trigger.click"]
