"""What filling one letter in costs, against one RSA-2048 signature of the same run.

The letter: 24 kB of HTML, 18 tracked links, name and city, pixel, both parts. Prints microseconds and ratios.
"""

import time
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailbase.letters.compile import Filler, compile_campaign
from mailbase.letters.content import Content, Person, Sender, Tokens
from mailbase.letters.mime import HeaderPlan, message_id

LETTERS = 5_000
WORDS = "The spring catalogue is here, with forty new teas, a teapot for two and a recipe for every rainy afternoon. "


def sample(logic: bool = False) -> Content:
    """Return the letter that is measured."""
    items = "".join(
        f'<tr><td style="padding:12px 24px;font-family:Arial,sans-serif;font-size:15px;line-height:22px;color:#333333">'
        f'<h2 style="margin:0 0 8px">Item {n}</h2><p>{WORDS * 9}</p><a href="https://shop.example/catalogue/item-{n}?ref=letter" '
        f'style="display:inline-block;padding:10px 18px;background:#0a7f5a;color:#ffffff">See item {n}</a></td></tr>'
        for n in range(18)
    )
    greeting = "Dear {{ subscriber.attributes.name | default('friend') }} in {{ subscriber.attributes.city }},"
    if logic:
        greeting = "{% if subscriber.attributes.name %}" + greeting + "{% endif %}"
    html = f"<!doctype html><html><head><title>Spring</title></head><body><p>{greeting}</p><table>{items}</table></body></html>"
    return Content(subject="{{ subscriber.attributes.name }}, spring is here", preheader="Forty new teas", html=html)


def microseconds(count: int, work) -> float:
    """Return the CPU time of one call; the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for number in range(count):
            work(number)
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def main() -> None:
    """Measure and print."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = microseconds(300, lambda _: key.sign(b"x" * 700, padding.PKCS1v15(), hashes.SHA256()))
    print(f"one RSA-2048 signature      {signature:7.1f} µs")
    names = ["Anna", "Борис", "Zoë", "Li"] * 250
    people = [
        Person(n, f"reader{n}@example.com", {"name": f"{name}{n}", "city": f"Town {n % 300}"}, [], [], "en")
        for n, name in enumerate(names)
    ]
    tokens = [Tokens(*(f"{letter}{n:08d}" + letter * 50 for letter in "lupv")) for n in range(1000)]
    for label, logic in (("fill, expressions only", False), ("fill, with if", True)):
        content = sample(logic)
        compiled = compile_campaign(
            content, base_url="https://news.example", postal_address="1 High Street", locale="en", track_opens=True,
            track_clicks=True, utm={"source": "letter"},
        )  # fmt: skip
        filler = Filler(compiled)
        size = len(filler.fill(people[0], tokens[0]).body)
        cost = microseconds(LETTERS, lambda n, filler=filler: filler.fill(people[n % 1000], tokens[n % 1000]))
        print(
            f"{label:<27} {cost:7.1f} µs   {cost / signature:.3f} × signature   ({len(compiled.links)} links, HTML {len(content.html or '') // 1000} kB, body {size // 1000} kB)"
        )
    plan = HeaderPlan(
        Sender("Tea Shop", "news@shop.example"), list_id=("Tea", "news.shop.example"), feedback_id="7:tea:campaign:mailbase",
        msgtype="campaign7", bulk=True,
    )  # fmt: skip
    now = datetime(2026, 1, 31, tzinfo=UTC)
    cost = microseconds(
        LETTERS * 4,
        lambda n: plan.fill(
            people[n % 1000].email, message_id(n, now, "shop.example"), now, "https://news.example/u/" + tokens[n % 1000].unsubscribe,
            "unsubscribe@news.example", "ref",
        ),
    )  # fmt: skip
    print(f"header plan                 {cost:7.1f} µs   {cost / signature:.3f} × signature")


if __name__ == "__main__":
    main()
