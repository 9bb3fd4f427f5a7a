// Popup, slide-in and bar. They lie above the page and never move it; one at a time, never in the first second, never while somebody
// types, and not again before the quiet period is over, or at all to those who subscribed.

const css = `
.over{position:fixed;inset:auto;z-index:2147483000;border:0;padding:0;max-width:none;max-height:calc(100dvh - 2rem);overflow:auto;overscroll-behavior:contain;text-align:start;font-weight:400;color:var(--mailbase-ink,#1d2126);background:var(--mailbase-paper,#fff);border-radius:calc(var(--r)*1.8);box-shadow:0 0 0 1px rgb(128 128 128/.2),0 1.5rem 4rem -1rem rgb(0 0 0/.4);animation:rise .3s cubic-bezier(.2,.8,.3,1)}
.over:has(>.dark){color:var(--mailbase-ink,#eceef1);background:var(--mailbase-paper,#1c1f25);color-scheme:dark}
.inner{padding:1.75rem}
.over .head{padding-inline-end:2rem}
.shut{position:absolute;inset-block-start:.4rem;inset-inline-end:.4rem;width:2.75rem;min-height:2.75rem;padding:0;font-size:1.5rem;font-weight:400;line-height:1;color:inherit;background:none}
.popup{inset:0;margin:auto;width:min(27rem,100vw - 2rem);height:fit-content}
dialog::backdrop{background:rgb(12 16 22/.55);animation:fade .3s}
.slide_in{inset-block-end:1rem;inset-inline-end:1rem;width:min(23rem,100vw - 2rem)}
.bar{inset:auto 0 0;width:100%;border-radius:0;max-height:60dvh}
.bar .inner{display:flex;flex-wrap:wrap;gap:.75rem 2.5rem;align-items:center;max-width:66rem;margin:auto;padding-block:1rem;padding-inline:1.25rem 3.25rem}
.bar .head{flex:1 1 17rem;margin:0;padding:0}
.bar h2{font-size:1.1em}
.bar form{flex:1 1 25rem;display:flex;flex-wrap:wrap;gap:.75rem;align-items:end}
.bar .field{flex:1 1 15rem;align-self:start}
.bar [type=submit]{flex:1 0 auto}
.over:has([data-state],.link){max-height:calc(100dvh - 3rem)}
.bar fieldset,.bar .tick,.bar .note,.bar .say:not(:empty){flex:1 1 100%}
@media(max-width:600px){.bar,div.popup,.slide_in{inset:auto 0 0;margin:0;width:100%;height:auto;max-height:55dvh;border-end-start-radius:0;border-end-end-radius:0}
.over .inner{padding:1.25rem}
.bar .head{padding-inline-end:2rem}}
@media(min-width:601px){:where(.bar form:not(:has(.tick)):has(.field :is(.fault,.hint):not(:empty)))>.say:empty~button{align-self:start;margin-top:1.85em}}
@media(min-width:784px){.bar form:has(.field~.field)>.say:empty~button{margin-top:0}}
@keyframes rise{from{opacity:0;translate:0 1.25rem}}
@keyframes fade{from{opacity:0}}`;

const UNITS = { m: 6e4, h: 36e5, d: 864e5 };
let open; // closes the one that is open
let met = false; // one has come by itself on this page
let engaged = false; // a phone's visitor has touched the page
for (const name of ["pointerdown", "keydown", "scroll", "touchstart"]) {
  addEventListener(name, () => (engaged = true), { once: true, passive: true, capture: true });
}

const typing = () => {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element?.matches("input,textarea,select,[contenteditable]");
};
const isPhone = () => matchMedia("(max-width:600px)").matches;

// Keeps the page behind still; the scrollbar's room stays, so nothing moves.
const lock = () => {
  const { style, clientWidth } = document.documentElement;
  const before = [style.overflow, style.scrollbarGutter];
  if (innerWidth > clientWidth) style.scrollbarGutter = "stable";
  style.overflow = "hidden";
  return () => ([style.overflow, style.scrollbarGutter] = before);
};

export const overlay = (place, config, root, kit) => {
  const { key, texts, display } = config;
  const { make } = kit;
  const uninvited = display.mode !== "inline";
  const mode = uninvited ? display.mode : "popup";
  const memory = `mailbase:${key}`;
  const remember = (until) => {
    try {
      if (uninvited && localStorage[memory] !== "done") localStorage[memory] = until;
    } catch {} // a browser that keeps nothing is not asked again: see quiet
  };
  const rest = () => {
    const [, count, unit] = display.every?.match(/^(\d+)([mhd])$/) || [0, 15, "d"];
    remember(Date.now() + count * UNITS[unit]);
  };
  const quiet = () => {
    try {
      const until = localStorage[memory];
      return until === "done" || Date.now() < until;
    } catch {
      return true;
    }
  };
  const done = () => remember("done");
  kit.dress(root, css);
  addEventListener("mailbase:pending", ({ detail }) => detail?.key === key && done());

  const show = (trigger, invited) => {
    if (open || !place.isConnected) return;
    const modal = mode === "popup" && (invited || !isPhone());
    const inner = make("div", { class: "inner" });
    const shut = make("button", { type: "button", class: "shut", "aria-label": texts.close }, "×");
    const panel = make(modal ? "dialog" : "div", {
      class: `over ${mode}`, role: "dialog", "aria-modal": modal ? "true" : null,
      "aria-labelledby": "title", popover: modal ? null : "manual", tabindex: "-1",
    }, inner, shut);
    root.append(panel);
    const seen = kit.draw(place, config, inner, mode, { trigger, titled: true, done });
    const before = document.activeElement;
    const unlock = modal && lock();
    const gone = new MutationObserver(() => place.isConnected || close()); // a framework took the page away
    const close = () => {
      open = undefined;
      gone.disconnect();
      removeEventListener("keydown", keys, true);
      const held = panel.contains(root.activeElement);
      panel.remove();
      unlock && unlock();
      if (held) before?.focus?.({ preventScroll: true });
      rest();
    };
    const keys = (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        close();
      } else if (event.key === "Tab" && modal) {
        const stops = [...panel.querySelectorAll("input:not([type=hidden],[tabindex]),select,button,a[href]")].filter((stop) => stop.checkVisibility?.() ?? true);
        const [from, to] = event.shiftKey ? [stops[0], stops.at(-1)] : [stops.at(-1), stops[0]];
        if (root.activeElement !== from && panel.contains(root.activeElement) && root.activeElement !== panel) return;
        event.preventDefault();
        to.focus();
      }
    };
    open = close;
    gone.observe(document, { childList: true, subtree: true });
    addEventListener("keydown", keys, true);
    shut.onclick = close;
    panel.oncancel = (event) => {
      event.preventDefault();
      close();
    };
    panel.addEventListener("pointerdown", ({ target }) => modal && target === panel && close()); // the backdrop: the panel itself is covered
    if (modal) panel.showModal();
    else panel.showPopover?.();
    if (modal || invited) panel.querySelector("input:not([type=hidden]),select,button").focus({ preventScroll: true });
    rest();
    seen();
  };

  const { delay, scroll, exit, click } = display.trigger || { delay: 10 };
  const appear = (trigger) => {
    if (met || open || quiet() || !place.isConnected) return;
    if (performance.now() < 1000 || typing() || document.hidden || (isPhone() && !engaged)) return setTimeout(appear, 500, trigger);
    met = true;
    show(trigger);
  };
  if (!uninvited || quiet()) {
    // only when asked for
  } else if (delay != null) setTimeout(appear, Math.max(1, delay) * 1000, "delay");
  else if (scroll != null) {
    const look = () => {
      const way = document.documentElement.scrollHeight - innerHeight;
      if (way <= 0 || scrollY / way < scroll) return;
      removeEventListener("scroll", look);
      appear("scroll");
    };
    addEventListener("scroll", look, { passive: true });
    look();
  } else if (exit && !matchMedia("(pointer:coarse)").matches) {
    const look = ({ clientY, relatedTarget }) => clientY <= 0 && !relatedTarget && appear("exit");
    for (const name of ["mouseout", "mouseleave"]) document.addEventListener(name, look, true);
  }
  if (click) {
    document.querySelector(click); // a selector that is none says so at once
    document.addEventListener("click", (event) => {
      if (!event.composedPath().some((element) => element.matches?.(click))) return;
      event.preventDefault();
      show("click", true);
    });
  }
  return () => show("open", true);
};
