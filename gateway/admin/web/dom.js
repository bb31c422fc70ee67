// Elements, and how figures and times are written.

/** Returns an element: h("a", {href: "#x", class: "y", onclick: f}, "text", child). */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** Returns a button that changes something in the gateway; a viewer gets none. */
export function operation(label, act, props = {}) {
  return isOperator() ? h("button", {type: "button", ...props, onclick: act}, label) : null;
}

export const isOperator = () => document.body.dataset.role === "operator";

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element of a drawing. */
export function draw(tag, props = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** Calls `draw`, which draws the rows of `box` again; what has the focus in a row keeps it. */
export function keepFocus(box, draw) {
  const held = box.contains(document.activeElement) ? document.activeElement : null;
  const [row, label] = [held?.closest("tr")?.id, held?.textContent];
  draw();
  if (!row) return;
  const all = [...document.getElementById(row)?.querySelectorAll("a, button") ?? []];
  (all.find((one) => one.textContent === label) ?? all.find((one) => one.tagName === held.tagName) ?? all[0])?.focus({preventScroll: true});
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});

/** Returns the reason of a failure with a vendor's message in the place of the JSON around it. */
export function oneLine(reason) {
  const at = reason.search(/[{[]/);
  const said = at >= 0 && /"(?:error_?[mM]essage|message|msg|error_description|detail|title|error|reason)"\s*:\s*"((?:[^"\\]|\\.)+)"/.exec(reason.slice(at));
  if (!said) return reason;
  try { return reason.slice(0, at) + JSON.parse(`"${said[1]}"`); } catch { return reason; }
}

export const count = (number) => whole.format(number);
export const compact = (number) => (number < 10000 ? whole.format(number) : short.format(number));

export function rate(perSecond) {
  if (!perSecond) return "0/s";
  if (perSecond < 0.1) return `${(perSecond * 60).toFixed(1)}/min`;
  return `${perSecond < 10 ? perSecond.toFixed(1) : compact(Math.round(perSecond))}/s`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < 4) {
    number /= 1024;
    unit += 1;
  }
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** Returns a time of day, in UTC like everything that the gateway writes. */
export function clock(at) {
  return h("time", {datetime: new Date(at * 1000).toISOString(), title: moment(at)}, new Date(at * 1000).toISOString().slice(11, 23));
}

export function moment(at) {
  return `${new Date(at * 1000).toISOString().replace("T", " ").slice(0, 19)} UTC`;
}

/** Returns the word about gateways of a cluster that did not answer; null if all did. */
export function unanswered(silent) {
  const names = Object.keys(silent);
  return names.length > 0 && h("p", {class: "warn", role: "status"}, `${names.join(", ")} did not answer; what ${names.length === 1 ? "it" : "they"} recorded is missing.`);
}

/** Returns what is said of something that went well, badly, or is waiting. */
export function badge(text, tone) {
  return h("span", {class: `badge ${tone}`}, text);
}

export const TONES = {
  accepted: "plain", delivered: "good", declined: "calm", duplicate: "calm", shadowed: "calm",
  retry: "warn", pending: "warn", refused: "bad", dead_letter: "bad",
  sent: "good", delivering: "good", paused: "warn", half_open: "warn", open: "bad",
};
export const WORDS = {sent: "would be sent", shadowed: "shadow: compared, not sent", retry: "will retry", dead_letter: "dead letter", finished: "finished, not traced", open: "circuit open", half_open: "probing"};

const STATES = {
  healthy: "good", accepting: "good", behind: "warn", paused: "warn", filling: "warn", attention: "warn",
  degraded: "bad", down: "bad",
  failing: "bad", refused: "bad", stopped: "bad", refusing: "bad",
  ready: "good", starting: "warn", leaving: "warn", gone: "bad",
};

/** Returns the state of a source or a destination, as the health of the gateway has it. */
export const stateBadge = (state) => badge(state === "refused" ? "key refused" : state, STATES[state]);

export const outcome = (word) => badge(WORDS[word] ?? word, TONES[word] ?? "plain");

/** Returns a text as a sentence. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

export function empty(title, ...what) {
  return h("div", {class: "empty"}, h("h2", {}, title), ...what.map((one) => (typeof one === "string" ? h("p", {}, one) : one)));
}

const label = (head) => head.replace(/^n /, "");

/** Returns a row of a table with these heads; on a narrow screen each cell shows its head. */
export function tableRow(heads, cells, props = {}) {
  return h("tr", props, cells.map((cell, i) => h("td", {class: heads[i].startsWith("n ") ? "n" : null, "data-label": label(heads[i]) || null}, cell)));
}

/** Returns a table; each row is a list of cells, or {cells, props}. Heads of numbers begin with "n ". */
export function table(caption, heads, rows, props = {}) {
  return h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption, ...props},
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", {scope: "col", class: head.startsWith("n ") ? "n" : null}, label(head))))),
      h("tbody", {}, rows.map((row) => (Array.isArray(row) ? tableRow(heads, row) : tableRow(heads, row.cells, row.props))))));
}

let toastTimer = 0;

/** Says something for a while, to ears as well. */
export function toast(text, tone = "") {
  const box = document.querySelector("#toasts");
  fill(box, h("div", {class: `toast ${tone}`}, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.replaceChildren(), 6000);
}
