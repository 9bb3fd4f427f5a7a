"""``mailbase demo``: the main job, played against the running instance over its public doors, and left there to be looked at.

A domain, two interests, a form; three visitors who subscribe and confirm through the link in the letter they got; one campaign,
opened, clicked and once answered with a one-click unsubscribe; then what the statistics say. It can be played again at any time.
"""

import re
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import httpx

from mailbase.config import Settings
from mailbase.errors import ConfigError, Unavailable
from mailbase.home import admin_key_words

DOMAIN: Final = "news.example.com"
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PATIENCE: Final = 60.0

VISITORS: Final = (
    ("ada", "Ada", "London", ["product-news", "field-notes"]),
    ("grace", "Grace", "New York", ["product-news"]),
    ("sofia", "София", "Москва", ["field-notes"]),
)

LETTER: Final = """
<mjml>
  <mj-head>
    <mj-attributes>
      <mj-all font-family="Georgia, serif" />
      <mj-text font-size="17px" line-height="26px" color="#23303b" />
    </mj-attributes>
  </mj-head>
  <mj-body background-color="#eef1ec">
    <mj-section background-color="#1f4d3f" padding="36px 24px">
      <mj-column><mj-text color="#f4f7f1" font-size="30px" line-height="36px">Field notes, No. 1</mj-text></mj-column>
    </mj-section>
    <mj-section background-color="#ffffff">
      <mj-column>
        <mj-text>Hello {{ subscriber.attributes.name | default("there") }},</mj-text>
        <mj-text>this is the first letter from our own server. It knows that you live
          {% if subscriber.attributes.city %}in {{ subscriber.attributes.city }}{% else %}somewhere nice{% endif %},
          because you told it so, and that you asked for {{ subscriber.interests | join(" and ") }}.</mj-text>
        <mj-button background-color="#c8553d" href="https://www.example.com/first-letter">Read the whole story</mj-button>
        <mj-text>Or have a look <a href="https://www.example.com/workshop">into the workshop</a>.</mj-text>
      </mj-column>
    </mj-section>
    <mj-section>
      <mj-column>
        <mj-text font-size="13px" line-height="20px" color="#62706a"><a href="{{ preferences_url }}">Choose topics</a> ·
          <a href="{{ unsubscribe_url }}">Unsubscribe</a> · <a href="{{ view_url }}">Read in the browser</a></mj-text>
      </mj-column>
    </mj-section>
  </mj-body>
</mjml>
"""


def demo(settings: Settings) -> None:
    """Play it, saying each step as it happens.

    Raises:
        Unavailable: nothing answers at the instance's address, or a step does not happen in time.
        ConfigError: letters go to a real relay, where the demo could not read them (and should not write any).

    """
    if not settings.to_outbox:
        raise ConfigError(
            "the demo reads its letters from the outbox; start mailbase without MAILBASE_SMTP_URL to play it"
        )
    base = f"http://{settings.host}:{settings.port}"
    with (
        httpx.Client(
            base_url=f"{base}/v1", headers={"Authorization": f"Bearer {settings.admin_key}"}, timeout=30
        ) as api,
        httpx.Client(base_url=base, headers={"User-Agent": BROWSER}, timeout=30) as visitor,
    ):
        try:
            visitor.get("/readyz").raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"no mailbase answers at {base}: start it with `mailbase up` ({error})") from None
        _play(_Demo(settings, api, visitor, run=int(time.time())))


class _Demo:
    def __init__(self, settings: Settings, api: httpx.Client, visitor: httpx.Client, *, run: int) -> None:
        self.settings, self.api, self.visitor, self.run = settings, api, visitor, run
        self.mark = time.time() - 1

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.api.request(method, path, json=body)
        self._accepted(answer)
        return answer.json() if answer.content else None

    def _accepted(self, answer: httpx.Response) -> None:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise ConfigError(
                f"the mailbase at {self.visitor.base_url} does not know the key in {self.settings.data_dir}: is it another instance's?"
            )
        if answer.is_error:
            asked = f"{answer.request.method} {answer.request.url.path}"
            raise Unavailable(f"{asked} answered {answer.status_code}: {answer.text[:300]}")

    def create(self, path: str, body: dict[str, Any], unique: str) -> Any:
        """Create a thing, or return the one an earlier demo left."""
        answer = self.api.post(path, json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            self._accepted(answer)
            return answer.json()
        return next(item for item in self.call("GET", f"{path}?limit=200")["data"] if item[unique] == body[unique])

    def local(self, url: str) -> str:
        """Return a public link's path: the demo visits it here, wherever the public origin points."""
        return url.removeprefix(self.settings.public_url)

    def letters(self) -> Iterator[tuple[Path, EmailMessage]]:
        for file in self.settings.outbox_dir.glob("*.eml"):
            if file.stat().st_mtime >= self.mark:
                yield file, _letter(file)


def _play(demo: _Demo) -> None:
    domain = demo.create("/domains", {"name": DOMAIN}, "name")
    say(
        "a sending domain",
        f"{domain['name']}, DKIM selector {domain['dkim']['selector']}; {len(domain['dns'])} DNS records to publish",
    )
    demo.create("/interests", {"slug": "product-news", "name": "Product news"}, "slug")
    demo.create("/interests", {"slug": "field-notes", "name": "Field notes"}, "slug")
    say("two interests", "product-news, field-notes")
    form = demo.call("POST", "/forms", _form())
    say("a form", form["hosted_url"])

    people = [_subscribe(demo, form, visitor) for visitor in VISITORS]
    say("three visitors subscribed", ", ".join(people))
    confirmed = [_confirm(demo, email) for email in people]
    say(
        "and confirmed",
        f"through the link in the letter each of them got (GET changed nothing, POST confirmed {len(confirmed)})",
    )

    campaign = demo.call("POST", "/campaigns", _campaign(demo.run))
    preview = demo.call("POST", f"/campaigns/{campaign['id']}/preview", {})
    warned = ", ".join(warning["code"] for warning in preview["warnings"]) or "none"
    say("a campaign", f"“{preview['subject']}”, {preview['size'] / 1000:.0f} kB, warnings: {warned}")
    forecast = demo.call("GET", f"/campaigns/{campaign['id']}/forecast")
    demo.call("POST", f"/campaigns/{campaign['id']}/send")
    wait(
        "the campaign to be sent", lambda: demo.call("GET", f"/campaigns/{campaign['id']}")["status"] == "sent" or None
    )
    say("sent", f"{forecast['recipients']} letters, signed, to the outbox")

    letters = _campaign_letters(demo, campaign["id"])
    views = [_read(demo, letter, place) for place, letter in enumerate(letters[email] for email in people)]
    stats = demo.call("GET", f"/campaigns/{campaign['id']}/stats")
    say(
        "read",
        f"{stats['opens']['unique']} opened, {stats['clicks']['unique']} clicked, {stats['unsubscribes']} left with one click",
    )
    print(_table(stats))
    print(
        "Look at it:",
        f"  letters     {demo.settings.public_url}/outbox",
        f"  in browser  {views[0]}",
        f"  the form    {form['hosted_url']}",
        f"  embedded    {demo.settings.public_url}/embed/demo?form={form['key']}",
        f"  reference   {demo.settings.public_url}/docs",
        f'  statistics  curl -H "Authorization: Bearer {admin_key_words(demo.settings)}" {demo.settings.public_url}/v1/campaigns/{campaign["id"]}/stats',
        sep="\n",
    )


def _form() -> dict[str, Any]:
    return {
        "name": "Field notes",
        "fields": [
            {"name": "name", "label": "First name", "type": "text", "required": False},
            {"name": "city", "label": "City", "type": "text", "required": False},
        ],
        "interests": ["product-news", "field-notes"],
        "interest_choice": True,
        "consents": [
            {"purpose": "newsletter", "text": "Send me the letters I chose. I can leave at any time.", "required": True}
        ],
        "from": {"name": "Field notes", "email": f"hello@{DOMAIN}"},
    }


def _campaign(run: int) -> dict[str, Any]:
    return {
        "name": f"First letter {run}",
        "from": {"name": "Field notes", "email": f"hello@{DOMAIN}"},
        "subject": 'Field notes No. 1, for {{ subscriber.attributes.name | default("you") }}',
        "preheader": "The first letter from our own server",
        "mjml": LETTER,
        "audience": {"interests": ["product-news", "field-notes"]},
    }


def _subscribe(demo: _Demo, form: Any, visitor: tuple[str, str, str, list[str]]) -> str:
    local, name, city, interests = visitor
    email = f"{local}.{demo.run}@example.org"
    answer = demo.visitor.post(
        f"/f/{form['key']}",
        data={"email": email, "name": name, "city": city, "interests": interests, "consent_newsletter": "on"},
        headers={"Accept": "application/json"},
    )
    if answer.status_code != httpx.codes.ACCEPTED:
        raise Unavailable(f"the form answered {answer.status_code}: {answer.text[:300]}")
    return email


def _confirm(demo: _Demo, email: str) -> str:
    def find() -> str | None:
        for _, letter in demo.letters():
            if letter["X-Mailbase-To"] == email and (found := re.search(r"https?://\S+/c/[\w-]+", _text(letter))):
                return found[0]
        return None

    url = demo.local(wait(f"the confirmation letter to {email}", find))
    demo.visitor.get(url).raise_for_status()
    answer = demo.visitor.post(url)
    if answer.is_error:
        raise Unavailable(f"the confirmation answered {answer.status_code}")
    return email


def _campaign_letters(demo: _Demo, campaign_id: int) -> dict[str, EmailMessage]:
    deliveries = demo.call("GET", f"/campaigns/{campaign_id}/deliveries?limit=200")["data"]
    return {
        one["email"]: _letter(demo.settings.outbox_dir / f"{one['id']}.eml")
        for one in deliveries
        if one["status"] == "sent"
    }


def _read(demo: _Demo, letter: EmailMessage, place: int) -> str:
    """Open the letter as its reader's programs would: the first clicks too, the last leaves."""
    html_part = letter.get_body(("html",))
    html = html_part.get_content() if html_part else ""
    pixel = re.search(r'src="([^"]+/o/[^"]+)"', html)
    link = re.search(r'href="([^"]+/l/1/[^"]+)"', html)
    view = re.search(r'href="([^"]+/v/[^"]+)"', html)
    if not pixel or not link or not view:
        raise Unavailable("the letter holds no pixel, link or view address")
    demo.visitor.get(demo.local(pixel[1])).raise_for_status()
    if place == 0:
        demo.visitor.get(demo.local(link[1]), follow_redirects=False)
    if place == len(VISITORS) - 1:
        unsubscribe = re.search(r"<(https?://[^>]+)>", letter["List-Unsubscribe"])
        if unsubscribe:
            demo.visitor.post(demo.local(unsubscribe[1]), data={"List-Unsubscribe": "One-Click"}).raise_for_status()
    return str(view[1])


def _letter(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def _text(letter: EmailMessage) -> str:
    part = letter.get_body(("plain",))
    return str(part.get_content()) if part else ""


def _table(stats: Any) -> str:
    rows = [
        ("recipients", stats["recipients"], ""),
        ("delivered", stats["deliveries"]["sent"], f"{stats['rates']['delivery']:.0%}"),
        ("bounced", stats["deliveries"]["bounced"], f"{stats['rates']['bounce']:.0%}"),
        ("opened by a person", stats["opens"]["unique_human"], f"{stats['rates']['open']:.0%}"),
        ("clicked by a person", stats["clicks"]["unique_human"], f"{stats['rates']['click']:.0%}"),
        ("left", stats["unsubscribes"], f"{stats['rates']['unsubscribe']:.0%}"),
        *((f"  clicks on {link['url'][:44]}", link["clicks"], "") for link in stats["links"]),
    ]
    width = max(len(name) for name, _, _ in rows)
    line = "  " + "─" * (width + 16)
    return "\n".join([line, *(f"  {name:<{width}}  {count:>6}  {rate:>5}" for name, count, rate in rows), line])


def say(what: str, detail: str) -> None:
    """Print one finished step."""
    print(f"  ✓ {what:<26} {detail}", flush=True)


def wait(what: str, look: Callable[[], Any]) -> Any:
    """Return what ``look`` finds, asking until the patience is over.

    Raises:
        Unavailable: it was not found in time.

    """
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise Unavailable(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.05)
    return found
