// The other half of a form, loaded when it is first touched: checks, the hint at a mistyped address, sending with all its states,
// and the second step. Forms the owner drew (own.js) send through it, too.

const css = `
.link{min-height:2.75em;padding:0;background:none;color:inherit;font-weight:400;text-decoration:underline;text-align:start}
.hint:empty{display:none}`;

const named = (form, name) => form.querySelector(`[name="${CSS.escape(name)}"]`);

// What went wrong, beside its field and known to a screen reader; the first one gets the focus.
const mark = (form, errors, places = form.querySelectorAll(".fault")) => {
  let first;
  for (const place of places) {
    const name = place.id.slice(6);
    const error = errors.find(({ field }) => field === name);
    const input = form.querySelector(`[data-part="${name}"]`) || named(form, name);
    place.textContent = error?.message || "";
    for (const [attribute, value] of [["aria-invalid", "true"], ["aria-describedby", place.id]]) {
      if (error) input.setAttribute(attribute, value);
      else input.removeAttribute(attribute);
    }
    if (error) first ||= input;
  }
  first?.focus();
  return first;
};
// Whoever mends a field is no longer told that it is wrong.
const forget = (form) => form.addEventListener("input", ({ target }) => mark(form, [], target.closest(".field,fieldset,.tick")?.querySelectorAll(".fault") || []));

// The server's own rules, so that most mistakes need no journey; the server looks again. `has` tells which inputs the form holds.
export const check = ({ fields, consents, mistakes: said }, values, has) => {
  if (!said) return [];
  const keeps = (value, { pattern, min, max }) => {
    try {
      return (!pattern || new RegExp(`^(?:${pattern})$`, "v").test(value)) && (!min || value.startsWith("--") || (value >= min && value <= max));
    } catch {
      return true; // a browser too old for the rule leaves it to the server
    }
  };
  const wrong = (field) => {
    const value = (values.get(field.name) || "").trim();
    if (!value) return field.required && "required";
    return !keeps(value, field) && `invalid_${field.type}`;
  };
  const asked = [
    ...fields.map((field) => [field.name, () => wrong(field)]),
    ...consents.map(({ purpose, required }) => [`consent_${purpose}`, () => required && !values.get(`consent_${purpose}`) && "consent_required"]),
  ];
  return asked.filter(([field]) => has(field)).map(([field, look]) => [field, look()]).filter(([, code]) => code)
    .map(([field, code]) => ({ field, code, message: said[code] || said.invalid_value }));
};

// The sum the server may ask for while the form is attacked; begun with the first letter that is typed, so that nobody waits for it.
export const prove = (config, kit) => {
  if (!config.pow) return;
  if (config.proof && Date.now() - config.asked < 3e5) return config.proof;
  config.asked = Date.now();
  config.proof = fetch(config.pow.challenge, { credentials: "omit" })
    .then((answer) => answer.status === 200 && answer.json())
    .then(async (challenge) => challenge && (await kit.part("work")).solve(challenge))
    .catch(() => {});
  return config.proof;
};

// One submission, whoever drew the form: `ui` hears each state (sending, slow, pending, invalid, limited, offline, failed) and its words.
export const send = async (place, config, body, wrong, ui, kit, more) => {
  const { key, texts, address } = config;
  const fail = (state, errors, rest) => {
    kit.tell(place, "error", { key, state, errors, ...rest });
    ui(state, { limited: texts.rate_limited, offline: texts.offline }[state] || errors[0]?.message || texts.failed, errors);
  };
  if (!kit.tell(place, "submit", { key })) return;
  if (wrong.length) return fail("invalid", wrong);
  ui("sending", texts.sending);
  const slow = setTimeout(() => ui("slow", texts.slow), 4000);
  try {
    const proof = !more && (await prove(config, kit));
    if (proof) body.set("altcha", proof);
    // A browser that fills in everything at once is quicker than any person; its letter should go out all the same.
    await new Promise((go) => setTimeout(go, config.min_seconds * 1000 + 100 - (Date.now() - config.loaded)));
    const answer = await fetch(address + (more ? "/more" : ""), {
      method: "POST", body, headers: { Accept: "application/json" }, credentials: "omit", signal: AbortSignal.timeout?.(30000),
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) return fail({ 422: "invalid", 429: "limited" }[answer.status] || "failed", said.errors || [], { status: answer.status });
    kit.tell(place, "pending", { key });
    ui("pending", texts.pending, said);
  } catch (error) {
    fail(navigator.onLine ? "failed" : "offline", [], { error });
  } finally {
    clearTimeout(slow);
    config.proof = undefined; // a solution is good for one submission
  }
};

// "gmial.com" is one slip from "gmail.com": without what both begin and end with, at most a letter is left of each, or two turned round.
const near = (a, b) => {
  const short = Math.min(a.length, b.length);
  let head = 0, tail = 0;
  while (head < short && a[head] === b[head]) head++;
  while (tail < short - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  const [x, y] = [a, b].map((text) => text.slice(head, text.length - tail));
  return (x.length < 2 && y.length < 2) || (x.length === 2 && x === [...y].reverse().join(""));
};
const hint = (form, { hints, texts }, { make }) => {
  const input = named(form, "email");
  if (!input || !hints?.domains) return;
  const place = make("span", { class: "hint", "aria-live": "polite" });
  input.after(place);
  input.addEventListener("input", () => place.replaceChildren());
  // A moment later: what appears while a finger is down moves what it is about to press.
  input.addEventListener("change", () => setTimeout(() => {
    const [, who, domain] = input.value.trim().toLowerCase().match(/^(.+)@(.+)$/) || [];
    const meant = domain && !hints.domains.includes(domain) && hints.domains.find((known) => near(domain, known));
    place.replaceChildren();
    if (!meant) return;
    const button = make("button", { type: "button", class: "link" }, texts.typo.replace("{address}", `${who}@${meant}`));
    button.onclick = () => {
      input.value = `${who}@${meant}`;
      place.replaceChildren();
      input.focus();
    };
    place.append(button);
  }, 300));
};

const dressed = new WeakSet();

// Takes a drawn form in care; returns what sends it. `token` is the first step's answer, for the second.
export const attend = (life, token) => {
  const { place, config, form, box, meta, done, kit } = life;
  const { texts } = config;
  const root = form.getRootNode();
  if (!dressed.has(root)) kit.dress(root, css);
  dressed.add(root);
  const [button, say] = ["[type=submit]", ".say"].map((found) => form.querySelector(found));
  const word = button.textContent;
  const finish = () => {
    if (config.redirect) return location.assign(config.redirect);
    const said = kit.head(texts.pending_title, texts.pending);
    said.className = "head done";
    box.replaceChildren(said);
    said.firstChild.focus();
  };
  const ask = (more) => {
    const next = kit.render(config, place, 2);
    const go = attend({ ...life, form: next }, more);
    next.addEventListener("submit", (event) => {
      event.preventDefault();
      go();
    });
    const skip = kit.make("button", { type: "button", class: "link" }, texts.skip);
    skip.onclick = finish;
    next.append(skip);
    const title = kit.head(texts.more_title, texts.more_text);
    box.replaceChildren(title, next);
    title.firstChild.focus();
  };
  const ui = (state, text, data) => {
    const busy = state === "sending" || state === "slow";
    form.dataset.state = state;
    if (busy) form.setAttribute("aria-busy", "true");
    else form.removeAttribute("aria-busy");
    button.textContent = busy ? texts.sending : word;
    say.textContent = state === "sending" || state === "pending" || (state === "invalid" && mark(form, data)) ? "" : text;
    const panel = say.textContent && form.closest(".over"); // the message pushed the button down
    if (panel) panel.scrollTop = panel.scrollHeight;
    if (state !== "pending") return;
    done?.();
    if (data.more && config.fields.some(({ step }) => step === 2)) ask(data.more);
    else finish();
  };
  let began = token;
  const begin = () => {
    if (began) return;
    began = true;
    kit.report(config, "start", meta);
    prove(config, kit);
  };
  form.addEventListener("input", begin);
  forget(form);
  hint(form, config, kit);
  return () => {
    if (form.matches("[aria-busy]")) return;
    begin();
    mark(form, []);
    const body = new URLSearchParams(new FormData(form));
    if (token) body.append("_more", token);
    else for (const [name, value] of Object.entries(meta)) if (value) body.append(`_${name}`, value);
    return send(place, config, body, check(config, body, (name) => named(form, name)), ui, kit, token);
  };
};
