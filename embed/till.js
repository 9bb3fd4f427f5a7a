// The till: one guest after the other on the shop's own device. What a guest entered lives in this page's memory and nowhere else: until it
// was sent, or until the next guest. While the line is down entries wait here, each with a number of its own, so that one sent twice counts once.
(() => {
  const form = document.querySelector("form[data-till]");
  const said = JSON.parse(form.dataset.till);
  const [entry, done, text, waiting, fault] = ["till-form", "till-done", "till-text", "till-waiting", "till-fault"].map((id) => document.getElementById(id));
  const button = form.querySelector("button[type=submit]");
  const label = button.textContent;

  const IDLE = 60_000; // a guest who walked away
  const THANKS = 6_000;
  const PATIENCE = 8_000; // for an answer
  const SOONEST = 2_000;
  const LATEST = 60_000;
  const MOST = 1_000;

  const queue = [];
  let busy = false;
  let flushing = false;
  let dropped = 0;
  let gone = false;
  let pause = SOONEST;
  let again;
  let idle;
  let fresh = true;

  const plural = (table, n) => (table[new Intl.PluralRules(document.documentElement.lang).select(n)] || table.other).replace("{n}", n);
  const tell = () => {
    const lines = [queue.length && plural(said.waiting, queue.length), gone && `${said.gone}.`, dropped && plural(said.dropped, dropped)].filter(Boolean);
    waiting.hidden = !lines.length;
    waiting.classList.toggle("notice-bad", Boolean(dropped || gone));
    waiting.textContent = lines.join(" ");
  };

  // A page without HTTPS has no randomUUID.
  const number = () => {
    if (crypto.randomUUID) return crypto.randomUUID();
    const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-8$4-$5");
  };

  // taken, or refused for good with what is wrong, or neither: later. Anything but our own answer (a hotspot's page, a proxy's) is later.
  const send = async (body) => {
    try {
      const answer = await fetch(form.action, {
        method: "POST", body, headers: { Accept: "application/json" }, credentials: "omit", cache: "no-store", redirect: "error", signal: AbortSignal.timeout(PATIENCE),
      });
      const found = await answer.json();
      gone = answer.status === 410 || answer.status === 404;
      if (answer.status === 202) return found.status === "pending" ? { taken: true } : {};
      if ([400, 413, 422].includes(answer.status)) return { errors: found.errors || [] };
      return { after: Number(answer.headers.get("Retry-After")) * 1000 };
    } catch {
      return {};
    }
  };

  const flush = async () => {
    clearTimeout(again);
    if (flushing) return;
    flushing = true;
    while (queue.length) {
      const { taken, errors, after } = await send(queue[0]);
      if (!taken && !errors) {
        again = setTimeout(flush, Math.max(after || 0, pause * (0.75 + Math.random() / 2)));
        pause = Math.min(pause * 2, LATEST);
        break;
      }
      queue.shift();
      if (errors) dropped += 1;
      pause = SOONEST;
      tell();
    }
    flushing = false;
    tell();
  };

  const report = (type) => fetch(said.events, { method: "POST", body: JSON.stringify({ type, source: said.source, mode: "till", page: location.origin + location.pathname.replace(/\/till(\/.*)?$/, "") }), keepalive: true, credentials: "omit" }).catch(() => {});

  // What is wrong beside its field, known to a screen reader; the first one gets the focus.
  const show = (errors) => {
    let first;
    for (const input of form.querySelectorAll("[name]:not([type=hidden])")) {
      const name = input.name.replace(/\.(day|month|year)$/, "");
      const place = document.getElementById(`fault-${name}`) || mark(input, name);
      const error = errors.find((one) => one.field === name);
      if (place) place.textContent = error ? error.message : "";
      if (error) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", `fault-${name}`);
        first ||= input;
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
      }
    }
    fault.textContent = errors.length && !first ? errors[0].message : "";
    first?.focus();
    first?.scrollIntoView({ block: "center" });
  };
  const mark = (input, name) => {
    const place = document.createElement("span");
    place.className = "fault";
    place.id = `fault-${name}`;
    (input.closest(".field, fieldset") || input.parentElement.querySelector("span")).append(place);
    return place;
  };

  // As much as can be said without the server: the line may be down.
  const wrong = () => [...form.querySelectorAll("[name]:not([type=hidden])")].flatMap((input) => {
    if (input.validity.valueMissing) return { field: input.name, message: input.name.startsWith("consent_") ? said.consent : said.required };
    return input.validity.typeMismatch ? { field: input.name, message: said.email } : [];
  });

  const reset = () => {
    clearTimeout(idle);
    form.reset();
    show([]);
    fresh = true;
    text.textContent = "";
    done.hidden = true;
    entry.hidden = false;
    scrollTo(0, 0);
    form.querySelector("input:not([type=hidden])").focus({ preventScroll: true });
  };
  const wake = () => {
    clearTimeout(idle);
    idle = setTimeout(() => (busy ? wake() : reset()), IDLE);
  };

  const thank = (words) => {
    form.reset();
    show([]);
    text.textContent = words;
    entry.hidden = true;
    done.hidden = false;
    done.querySelector("h1").focus({ preventScroll: true });
    scrollTo(0, 0);
    clearTimeout(idle);
    idle = setTimeout(reset, THANKS);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    const errors = wrong();
    if (errors.length) return show(errors);
    if (queue.length >= MOST) {
      fault.textContent = said.full;
      return;
    }
    const body = new URLSearchParams(new FormData(form));
    body.append("_id", number());
    show([]);
    busy = true;
    button.disabled = true;
    button.textContent = said.sending;
    // Once something waits, nobody else is kept waiting for the line.
    const answer = queue.length || navigator.onLine === false ? {} : await send(body);
    busy = false;
    button.disabled = false;
    button.textContent = label;
    if (answer.errors) return answer.errors.length ? show(answer.errors) : show([{ field: "", message: said.email }]);
    if (answer.taken) {
      pause = SOONEST;
      tell();
      return thank(said.done);
    }
    queue.push(body);
    tell();
    thank(said.kept);
    if (queue.length === 1 && !flushing) {
      clearTimeout(again);
      again = setTimeout(flush, Math.max(answer.after || 0, pause));
    }
  });

  form.addEventListener("input", () => {
    wake();
    if (!fresh) return;
    fresh = false;
    report("view");
    report("start");
  });
  for (const sign of ["pointerdown", "keydown"]) form.addEventListener(sign, wake);
  form.addEventListener("reset", () => setTimeout(() => { if (entry.hidden === false) show([]); }));
  document.getElementById("till-next").addEventListener("click", reset);
  addEventListener("online", flush);
  addEventListener("pageshow", reset);
  addEventListener("pagehide", () => form.reset());
  addEventListener("beforeunload", (event) => {
    if (queue.length || busy) event.preventDefault();
  });
})();
