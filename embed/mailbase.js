// mailbase forms: <script src="https://YOUR-HOST/embed/v1.js" async></script> <div data-mailbase-form="KEY"></div>
// No cookie, no third party; docs/embed-a-form.md tells all. v1-send.js comes when a form is first touched, v1-popup.js with popups,
// v1-own.js with forms the owner drew.
(() => {
  if (window.mailbase?.mount) return;
  const script = document.currentScript || document.querySelector('script[src*="/embed/v1.js"]');
  const host = new URL(script?.src || location).origin;
  const css = `
:host{display:block;max-width:var(--mailbase-width,30em);line-height:1.5;overflow-wrap:anywhere;--a:var(--mailbase-accent,#2a67d4);--on:var(--mailbase-on-accent,#fff);--r:var(--mailbase-radius,.6em);--b:var(--mailbase-bad,color-mix(in oklab,#d3281c 80%,currentcolor))}
*{box-sizing:border-box;margin:0}
form,.field,fieldset,.head{display:grid;gap:1.1em;min-width:0}
h2{font-size:1.3em;line-height:1.25}
.head{gap:.4em;margin-bottom:1.2em}
.field{gap:.35em}
.field label,legend{font-weight:600}
small,.note{font-size:.86em;font-weight:400;color:color-mix(in srgb,currentcolor 80%,transparent)}
fieldset{border:0;padding:0;gap:.6em}
legend{padding:0 0 .45em}
.date{display:grid;grid-template-columns:4.5em 1fr 6em;gap:.5em}
input,select,button{font:inherit;font-size:max(1em,16px);color:inherit;border-radius:var(--r)}
input,select{width:100%;min-width:0;min-height:2.9em;padding:.5em .8em;background:var(--mailbase-field,transparent);border:1px solid var(--mailbase-line,color-mix(in srgb,currentcolor 55%,transparent))}
option{color:canvastext;background:canvas}
.tick{display:grid;grid-template-columns:1.2em 1fr;gap:.65em;padding:.65em 0;margin:-.4em 0}
.tick input{min-height:0;height:1.2em;margin-top:.15em;accent-color:var(--a)}
small,.fault{display:block}
label>small,legend>small{display:inline}
button{min-height:3em;padding:.6em 1.5em;font-weight:600;border:0;background:var(--a);color:var(--on);cursor:pointer}
:focus-visible,[type=date]:focus{outline:3px solid color-mix(in srgb,var(--a) 60%,currentcolor);outline-offset:2px}
h2:focus{outline:0}
[aria-busy] [type=submit]::before{content:"";display:inline-block;width:.8em;height:.8em;margin-inline-end:.6em;vertical-align:-.2em;border:2px solid;border-inline-end-color:transparent;border-radius:50%;animation:turn 1s linear infinite}
@keyframes turn{to{rotate:1turn}}
[aria-invalid]{border-color:var(--b)}
.fault{color:var(--b);font-size:.88em}
.fault:empty{display:none}
.say{padding:.7em .9em;border-inline-start:3px solid var(--b);background:color-mix(in srgb,currentcolor 8%,transparent)}
[aria-busy] .say{border-color:var(--a)}
.say:empty,.away{position:absolute;clip-path:inset(50%)}
.done h2::before{content:"✓";display:grid;place-items:center;width:1.9em;height:1.9em;margin-bottom:.5em;border-radius:50%;background:var(--a);color:var(--on)}
.dark{color-scheme:dark}
a{color:inherit}
@media(prefers-reduced-motion){*{animation:none!important}}`;

  // Text only ever becomes text: nothing of the form's definition is parsed as HTML.
  const make = (tag, attributes, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
    element.append(...inside.filter(Boolean));
    return element;
  };
  const dress = (root, text) => {
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(text);
      root.adoptedStyleSheets.push(sheet);
    } catch {
      (root.head || root).prepend(make("style", { nonce: script?.dataset.nonce || script?.nonce }, text));
    }
  };
  const tell = (place, name, detail) => place.dispatchEvent(new CustomEvent(`mailbase:${name}`, { bubbles: true, composed: true, cancelable: true, detail }));
  const part = (name) => import(`${host}/embed/v1-${name}.js`);

  const fault = (name) => make("span", { class: "fault", id: `fault-${name}` });
  const tick = (name, value, required, checked, ...text) =>
    make("label", { class: "tick" }, make("input", { type: "checkbox", name, value, required, checked }), make("span", {}, ...text, fault(name)));
  const control = (field, config, place) => {
    const { texts } = config;
    const { name, label, required, type } = field;
    const value = place.getAttribute(`data-${name}`) ?? field.value;
    if (type === "hidden") return make("input", { type, name, value });
    if (type === "checkbox") return tick(name, "on", required, value, label);
    const more = !required && make("small", {}, ` ${texts.optional}`);
    if (field.year === "optional") return config.date(field, config, value, more, kit);
    const id = `field-${name}`;
    const input = type === "select"
      ? make("select", { id, name, required }, make("option", { value: "" }, texts.pick), ...field.options.map((text) => make("option", { selected: text === value }, text)))
      : make("input", { id, name, required, value, type: field.input, inputmode: field.mode, autocomplete: field.autocomplete, maxlength: field.longest });
    return make("div", { class: "field" }, make("label", { for: id }, label, more), input, fault(name));
  };
  const head = (title, text) => (title || text) ? make("div", { class: "head" }, title && make("h2", { id: "title", tabindex: "-1" }, title), text && make("p", {}, text)) : "";
  const render = (config, place, step) => {
    const { texts } = config;
    const first = step < 2 ? [
      config.interest_choice && make("fieldset", {}, make("legend", {}, texts.choose),
        ...config.interests.map((one) => tick("interests", one.slug, false, false, one.name, one.description && make("small", {}, one.description)))),
      ...config.consents.map((one) => tick(`consent_${one.purpose}`, "on", one.required, false, `${one.text} `,
        one.policy_url && make("a", { href: one.policy_url, target: "_blank", rel: "noopener" }, texts.policy))),
      make("div", { class: "away", "aria-hidden": "true" }, make("label", {}, "Website", make("input", { name: "_hp", tabindex: "-1", autocomplete: "off" }))),
      make("input", { type: "hidden", name: "_t", value: config._t }),
      make("input", { type: "hidden", name: "_consent_versions", value: config.consents.map(({ purpose, version }) => `${purpose}:${version}`).join(" ") }),
    ] : [];
    return make("form", { method: "post", action: config.action, novalidate: true },
      ...config.fields.filter((field) => (field.step || 1) === step).map((field) => control(field, config, place)), ...first, make("p", { class: "say", role: "alert" }),
      make("button", { type: "submit" }, step < 2 ? texts.button : texts.next), step < 2 && texts.note && make("p", { class: "note" }, texts.note));
  };

  const load = async (place, key) => {
    const address = `${host}/f/${encodeURIComponent(key)}`;
    const lang = place.closest("[lang]")?.lang || "";
    const answer = await fetch(`${address}/config.json?lang=${encodeURIComponent(lang)}`, { credentials: "omit" });
    if (!answer.ok) throw new Error(`mailbase: the form ${key} answered ${answer.status}`);
    return { ...(await answer.json()), address, loaded: Date.now() };
  };
  const about = (place, mode, trigger) => {
    const query = new URLSearchParams(location.search);
    const source = place.dataset.mailbaseSource || query.get("utm_source") || (document.referrer && new URL(document.referrer).host);
    const utm = Object.fromEntries([...query].filter(([name]) => name.startsWith("utm_")));
    return { page: location.origin + location.pathname, source: source === location.host ? "" : source, mode, trigger, ...utm };
  };
  const report = (config, type, meta) =>
    fetch(`${config.address}/events`, { method: "POST", body: JSON.stringify({ type, ...meta }), keepalive: true, credentials: "omit" }).catch(() => {});

  // Draws a form into `box`; returns what tells that it was seen. Should the other half not load, the browser sends the form by itself.
  const draw = (place, config, box, mode, { trigger, titled, done } = {}) => {
    const { texts } = config;
    const meta = about(place, mode, trigger);
    const form = render(config, place, 1);
    let help;
    const wake = () => (help ||= part("send").then(({ attend }) => attend({ place, config, form, box, meta, done, kit })));
    const on = (name, act) => form.addEventListener(name, act);
    on("focusin", () => wake().catch(() => (help = 0)));
    on("submit", (event) => {
      event.preventDefault();
      wake().then((send) => send(), () => navigator.onLine ? HTMLFormElement.prototype.submit.call(form) : ((help = 0), (form.querySelector(".say").textContent = texts.offline)));
    });
    // Light letters mean a dark page, whatever its colour scheme says.
    const tint = () => box.classList.toggle("dark", getComputedStyle(place).color.match(/\d+/) > 140);
    tint();
    matchMedia("(prefers-color-scheme:dark)").addEventListener("change", tint);
    box.append(head(titled && texts.title, texts.intro), form);
    return () => {
      report(config, "view", meta);
      tell(place, "view", { key: config.key });
    };
  };

  const kit = { make, dress, tell, part, fault, head, render, draw, report, about };
  const places = new WeakMap();
  const opened = {};
  const start = async (place, now) => {
    const key = place.dataset.mailbaseForm || place.dataset.mailbaseEnhance;
    if (places.get(place) === key) return;
    places.set(place, key);
    try {
      let soon = now;
      opened[key] = () => (soon = true);
      const config = await load(place, key);
      if (place.matches("form")) return (await part("own")).enhance(place, config, kit);
      if (config.fields.some(({ year }) => year === "optional")) config.date = (await part("date")).date;
      const root = place.shadowRoot || place.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [];
      const box = make("div");
      root.replaceChildren(box);
      dress(root, css);
      if (config.display.mode !== "inline" || now) opened[key] = (await part("popup")).overlay(place, config, root, kit);
      else {
        const seen = draw(place, config, box, "inline", { titled: "mailbaseTitle" in place.dataset });
        opened[key] = () => (root.querySelector("input:not([type=hidden])") || root.querySelector("h2")).focus();
        new IntersectionObserver(([entry], eye) => {
          if (!entry.isIntersecting) return;
          eye.disconnect();
          seen();
        }).observe(place);
      }
      if (soon) opened[key]();
    } catch (error) {
      console.error(error);
      tell(place, "error", { key, state: "failed", error });
    }
  };

  // Finds forms in a document or an open shadow root, now and later.
  const scan = (node) => {
    for (const found of node.querySelectorAll ? [node, ...node.querySelectorAll("*")] : []) {
      if (found.matches?.("[data-mailbase-form],form[data-mailbase-enhance]")) start(found);
      if (found.shadowRoot && !places.has(found)) mount(found.shadowRoot);
    }
  };
  const roots = new WeakSet();
  const mount = (root) => {
    scan(root);
    if (roots.has(root)) return;
    roots.add(root);
    new MutationObserver((changes) => changes.forEach(({ target, addedNodes, attributeName }) => [...addedNodes, attributeName && target].filter(Boolean).forEach(scan)))
      .observe(root, { childList: true, subtree: true, attributeFilter: ["data-mailbase-form", "data-mailbase-enhance"] });
  };
  window.mailbase = {
    mount,
    enhance: (form, key) => (form.dataset.mailbaseEnhance = key),
    open: (key) => {
      if (opened[key]) return opened[key]();
      const place = make("div", { "data-mailbase-form": key });
      start(place, true);
      document.body.append(place);
    },
  };
  mount(document);
  addEventListener("load", () => scan(document));
})();
