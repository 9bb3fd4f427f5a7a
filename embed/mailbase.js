// mailbase forms. <script src="https://YOUR-HOST/embed/v1.js" async></script> <div data-mailbase-form="KEY"></div>
// No cookies, no storage, no third party. Each form lives in an open shadow root, inherits the page's font and colour, and is
// styled from outside by --mailbase-accent, --mailbase-on-accent, --mailbase-radius, --mailbase-line, --mailbase-field, --mailbase-bad.
// Speaks on its <div>: mailbase:ready, mailbase:submitted, mailbase:failed (all bubble).
(() => {
  const host = new URL(document.currentScript?.src || location.href).origin;
  const css = `
:host{display:block;--a:var(--mailbase-accent,#1f4f8f);--r:var(--mailbase-radius,.5em);--l:var(--mailbase-line,color-mix(in srgb,currentcolor 55%,transparent));--b:var(--mailbase-bad,#c0392b)}
*{box-sizing:border-box}
form,.field,fieldset{display:grid;gap:1em}
h3,p{margin:0}h3{font-size:1.25em;line-height:1.25}
h3:focus{outline:0}
.head,.done{display:grid;gap:.4em;margin-bottom:1em}.done{margin:0}
.field{gap:.3em}
label{overflow-wrap:anywhere}
.field>label,legend{font-weight:600}
small,.note{font-size:.86em;opacity:.78;font-weight:400}
.tick small{display:block}
fieldset{border:0;margin:0;padding:0;min-width:0;gap:.5em}legend{padding:0;margin-bottom:.5em}
input,select,button{font:inherit;color:inherit}
input:not([type=checkbox]),select{width:100%;min-height:2.9em;padding:.5em .8em;background:var(--mailbase-field,transparent);border:1px solid var(--l);border-radius:var(--r)}
option{color:#111;background:#fff}
.tick{display:grid;grid-template-columns:1.25em 1fr;gap:.65em;cursor:pointer}
.tick input{width:1.15em;height:1.15em;margin:.2em 0 0;accent-color:var(--a)}
button{min-height:3em;padding:.6em 1.4em;font-weight:600;border:0;border-radius:var(--r);background:var(--a);color:var(--mailbase-on-accent,#fff);cursor:pointer}
button[disabled]{opacity:.6;cursor:progress}
:focus-visible{outline:3px solid color-mix(in srgb,var(--a) 60%,transparent);outline-offset:2px}
[aria-invalid]{border-color:var(--b)!important}
.fault{display:block;color:var(--b);font-size:.86em}
.fault:empty{display:none}
.away{position:absolute;left:-200vw;width:1px;height:1px;overflow:hidden}
a{color:inherit}`;

  // Text only ever becomes text: nothing of the form's definition is parsed as HTML.
  const make = (tag, attributes, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) element.setAttribute(name, "");
      else if (value != null && value !== false) element.setAttribute(name, value);
    }
    element.append(...inside.filter((item) => item || item === 0));
    return element;
  };
  const fault = (name) => make("span", { class: "fault", id: `fault-${name}` });
  const tick = (name, value, required, text) =>
    make("label", { class: "tick" }, make("input", { type: "checkbox", name, value, required }), make("span", {}, ...text));

  const control = (field, texts) => {
    const { name, label, required } = field;
    if (field.type === "checkbox") return tick(name, "on", required, [label, fault(name)]);
    const id = `field-${name}`;
    const input = field.type === "select"
      ? make("select", { id, name, required }, make("option", { value: "" }, texts.pick), ...field.options.map((option) => make("option", {}, option)))
      : make("input", { id, name, required, type: field.input, inputmode: field.mode, autocomplete: field.autocomplete, maxlength: field.longest });
    return make("div", { class: "field" }, make("label", { for: id }, label, !required && make("small", {}, ` ${texts.optional}`)), input, fault(name));
  };

  const render = (config) => {
    const { texts } = config;
    const choice = config.interest_choice && config.interests.length &&
      make("fieldset", {}, make("legend", {}, texts.choose),
        ...config.interests.map((one) => tick("interests", one.slug, false, [one.name, one.description && make("small", {}, one.description)])),
        fault("interests"));
    const consents = config.consents.map((one) => tick(`consent_${one.purpose}`, "on", one.required, [
      one.text, one.policy_url && " ", one.policy_url && make("a", { href: one.policy_url, target: "_blank", rel: "noopener" }, texts.policy),
      fault(`consent_${one.purpose}`)]));
    return make("form", { method: "post", action: config.action, novalidate: true },
      ...config.fields.map((field) => control(field, texts)), choice, ...consents,
      make("div", { class: "away", "aria-hidden": "true" }, make("label", {}, "Website ", make("input", { name: "_hp", tabindex: "-1", autocomplete: "off" }))),
      make("span", { class: "fault", id: "fault-form", role: "alert" }),
      make("button", { type: "submit" }, texts.button),
      texts.note && make("p", { class: "note" }, texts.note));
  };

  // What went wrong, beside its field and known to a screen reader; the first one gets the focus.
  const show = (form, errors) => {
    let first;
    for (const input of form.querySelectorAll("[name]")) {
      const error = errors.find((one) => one.field === input.name);
      const place = form.querySelector(`#fault-${CSS.escape(input.name)}`);
      if (place) place.textContent = error ? error.message : "";
      if (error) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", `fault-${input.name}`);
        first ||= input;
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
      }
    }
    first?.focus();
    return first;
  };

  const start = async (place) => {
    const key = place.dataset.mailbaseForm;
    const tell = (name, detail) => place.dispatchEvent(new CustomEvent(`mailbase:${name}`, { bubbles: true, detail }));
    const address = `${host}/f/${encodeURIComponent(key)}`;
    const page = location.origin + location.pathname;
    const report = (type) => fetch(`${address}/events`, { method: "POST", body: JSON.stringify({ type, page, mode: "inline" }), keepalive: true, credentials: "omit" }).catch(() => {});
    let config;
    try {
      const lang = place.closest("[lang]")?.lang;
      const answer = await fetch(`${address}/config.json${lang ? `?lang=${encodeURIComponent(lang)}` : ""}`, { credentials: "omit" });
      if (!answer.ok) throw new Error(`mailbase: the form ${key} answered ${answer.status}`);
      config = await answer.json();
    } catch (error) {
      console.error(error);
      return tell("failed", { error });
    }
    const { texts } = config;
    const root = place.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
    const form = render(config);
    const shown = Date.now();
    const titled = place.hasAttribute("data-mailbase-title");
    if (titled || texts.intro) root.append(make("div", { class: "head" }, titled && make("h3", {}, texts.title), texts.intro && make("p", {}, texts.intro)));
    root.append(form);
    form.addEventListener("input", () => report("start"), { once: true });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      if (button.disabled) return;
      const body = new URLSearchParams(new FormData(form));
      body.append("_t", config._t);
      body.append("_page", page);
      const say = (text) => { form.querySelector("#fault-form").textContent = text; };
      say("");
      button.disabled = true;
      button.textContent = texts.sending;
      try {
        // A browser that fills in everything at once is quicker than any person; its letter should go out all the same.
        await new Promise((go) => setTimeout(go, Math.max(0, config.min_seconds * 1000 + 100 - (Date.now() - shown))));
        const answer = await fetch(address, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "omit" });
        if (answer.ok) {
          tell("submitted", { key });
          if (config.redirect) return location.assign(config.redirect);
          const title = make("h3", { tabindex: "-1" }, texts.pending_title);
          root.replaceChildren(make("div", { class: "done", role: "status" }, title, make("p", {}, texts.pending)));
          return title.focus();
        }
        const problem = await answer.json().catch(() => ({}));
        if (!show(form, problem.errors || [])) say(problem.errors?.[0]?.message || texts.failed);
        tell("failed", { status: answer.status, problem });
      } catch (error) {
        say(texts.failed);
        tell("failed", { error });
      }
      button.disabled = false;
      button.textContent = texts.button;
    });
    tell("ready", { key });
    if (!("IntersectionObserver" in window)) return report("view");
    const eye = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        eye.disconnect();
        report("view");
      }
    });
    eye.observe(place);
  };

  const begun = new WeakSet();
  const find = () => {
    for (const place of document.querySelectorAll("[data-mailbase-form]")) {
      if (!begun.has(place)) {
        begun.add(place);
        start(place);
      }
    }
  };
  find();
  new MutationObserver(find).observe(document.documentElement, { childList: true, subtree: true });
})();
