// A form the owner drew: its look is left alone. Inputs are matched to the form's fields by name, whatever their case, or by
// data-mailbase-name; states are said in data-mailbase-state, in an element with data-mailbase-message, and as events.

import { check, prove, send } from "./v1-send.js";

// No more than that they can be told from the label; any rule of the page's own goes before it.
const css = ":where(.mailbase-fault){display:block;color:color-mix(in oklab,#d3281c 80%,currentcolor)}";

export const enhance = (form, config, kit) => {
  const { make } = kit;
  const names = [...config.fields.map(({ name }) => name), "interests", ...config.consents.map(({ purpose }) => `consent_${purpose}`)];
  const known = ({ name, type, dataset }) =>
    dataset.mailbaseName || names.find((wanted) => wanted.toLowerCase() === name.toLowerCase()) || (type === "email" ? "email" : name);
  const inputs = () => [...form.querySelectorAll("input,select,textarea")].filter(({ name }) => name);
  const say = form.querySelector("[data-mailbase-message]") || make("p", { "data-mailbase-message": true });
  say.setAttribute("role", "status");
  if (!say.isConnected) form.append(say);
  const meta = kit.about(form, "inline");
  const faults = [];
  kit.dress(form.getRootNode(), css);

  const mark = (errors) => {
    for (const [place, input, before] of faults.splice(0)) {
      place.remove();
      input.removeAttribute("aria-invalid");
      if (before) input.setAttribute("aria-describedby", before);
      else input.removeAttribute("aria-describedby");
    }
    for (const { field, message } of errors) {
      const input = inputs().find((one) => one.type !== "hidden" && known(one) === field);
      if (!input) continue;
      const place = make("span", { class: "mailbase-fault", id: `mailbase-${config.key}-${field}` }, message);
      const before = input.getAttribute("aria-describedby");
      (/^(checkbox|radio)$/.test(input.type) && input.closest("label") || input).after(place);
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", [before, place.id].filter(Boolean).join(" "));
      faults.push([place, input, before]);
    }
    faults[0]?.[1].focus();
    return faults.length;
  };

  let state = "ready";
  const ui = (now, text, data) => {
    state = now;
    form.dataset.mailbaseState = now;
    form.ariaBusy = now === "sending" || now === "slow" ? "true" : null;
    say.textContent = now === "invalid" && mark(data) ? "" : text;
    if (now !== "pending") return;
    if (config.redirect) return location.assign(config.redirect);
    form.reset();
  };

  form.addEventListener("input", () => {
    kit.report(config, "start", meta);
    prove(config, kit);
  }, { once: true });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state === "sending" || state === "slow") return;
    mark([]);
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      const input = inputs().find((one) => one.name === name);
      if (typeof value === "string") body.append(input ? known(input) : name, value);
    }
    for (const [name, value] of Object.entries(meta)) if (value) body.append(`_${name}`, value);
    body.append("_t", config._t);
    body.append("_consent_versions", config.consents.map(({ purpose, version }) => `${purpose}:${version}`).join(" "));
    const has = (name) => inputs().some((one) => known(one) === name);
    send(form, config, body, check(config, body, has), ui, kit);
  });
  new IntersectionObserver(([entry], eye) => {
    if (!entry.isIntersecting) return;
    eye.disconnect();
    kit.report(config, "view", meta);
    kit.tell(form, "view", { key: config.key });
  }).observe(form);
};
