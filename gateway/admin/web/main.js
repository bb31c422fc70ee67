// The shell: which page is shown, the keyboard, light and dark.

import {every, get, Problem} from "./api.js";
import {badge, duration, empty, fill, h, sentence, stateBadge, toast} from "./dom.js";
import * as audit from "./audit.js";
import * as cluster from "./cluster.js";
import * as config from "./config.js";
import * as deadLetters from "./dead-letters.js";
import * as destinations from "./destinations.js";
import * as events from "./events.js";
import * as overview from "./overview.js";
import * as playground from "./playground.js";
import * as replays from "./replays.js";
import * as vendors from "./vendors.js";

const PAGES = {overview, events, destinations, "dead-letters": deadLetters, replays, playground, vendors, config, cluster, audit};
const KEYS = {
  overview: "o", events: "e", destinations: "d", "dead-letters": "l", replays: "r", playground: "p", vendors: "v", config: "c", cluster: "n", audit: "a",
};
const page = document.querySelector("#page");
const nav = document.querySelector("#nav");
const INSTANCE = 3000;
let leaving = new AbortController();

for (const [name, one] of Object.entries(PAGES)) {
  nav.append(h("a", {href: `#${name}`, "data-page": name, title: `g ${KEYS[name]}`, hidden: name === "cluster"}, one.TITLE));
}

/** Returns what the address says: #destinations/crm?state=open. */
function place() {
  const [path, search] = location.hash.replace(/^#/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return {name: name in PAGES ? name : "overview", id: rest.join("/"), query: Object.fromEntries(new URLSearchParams(search ?? ""))};
}

async function show() {
  const here = place();
  leaving.abort();
  leaving = new AbortController();
  const {signal} = leaving;
  for (const link of nav.children) {
    if (link.dataset.page === here.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  nav.querySelector("[aria-current]").scrollIntoView({block: "nearest", inline: "center"});
  const {TITLE, show: open} = PAGES[here.name];
  document.title = `${here.id ? `${here.id} · ` : ""}${TITLE} · Gateway`;
  const box = h("div", {class: `page ${here.name}`});
  fill(page, box);
  window.scrollTo(0, 0);
  page.focus({preventScroll: true});
  try {
    await open(box, here, signal);
  } catch (error) {
    if (signal.aborted) return;
    fill(box, h("h1", {}, TITLE), wrong(error, here.id && h("p", {}, h("a", {href: `#${here.name}`}, `Back to ${TITLE.toLowerCase()}`))));
  }
}

function wrong(error, ...more) {
  if (error instanceof Problem) return empty(sentence(error.message), ...error.problems.map(sentence), ...more);
  if (error instanceof TypeError) return empty("Cannot reach the gateway.", "It may be restarting. Reload this page to try again.");
  console.error(error);
  return empty("This page failed to load.", String(error));
}

window.addEventListener("hashchange", show);
window.addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof Problem) {
    event.preventDefault();
    toast([event.reason.message, ...event.reason.problems].join(" · "), "bad");
  }
});

// Light and dark

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function turn() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("gateway-theme", theme);
  window.dispatchEvent(new Event("theme"));
}

document.querySelector("#theme").addEventListener("click", turn);

// The keyboard

const help = document.querySelector("#help");
const said = [
  ...Object.entries(PAGES).map(([name, one]) => [`g ${KEYS[name]}`, one.TITLE]),
  ["/", "Search events"], ["j k", "Next and previous row"], ["Enter", "Open the row"],
  ["x", "Select the dead letter"], ["t", "Switch theme"], ["?", "Show this list"],
];
fill(document.querySelector("#help-keys"), said.map(([keys, what]) => [
  h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, what),
]));
document.querySelector("#keys").addEventListener("click", () => help.showModal());
document.querySelector("#skip").addEventListener("click", (event) => {
  event.preventDefault();
  page.focus();
});

let going = false;

function move(step) {
  const rows = [...page.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + step))];
  (next.querySelector("a, button") ?? next).focus();
}

window.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const to = going && Object.keys(KEYS).find((name) => KEYS[name] === event.key);
  going = event.key === "g";
  if (to) location.hash = to;
  else if (event.key === "?") help.showModal();
  else if (event.key === "t") turn();
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "x") document.activeElement.closest("[data-row]")?.querySelector("input[type=checkbox]")?.click();
  else if (event.key === "/") {
    event.preventDefault();
    const field = page.querySelector("[data-search]");
    if (field) field.focus();
    else location.hash = "events";
  }
});

/** Says who is signed in, before a page decides which buttons it has. */
async function greet() {
  const me = await get("/me");
  document.body.dataset.role = me.role;
  if (me.name) fill(document.querySelector("#me"), `${me.name} `, me.role === "viewer" && h("span", {class: "badge plain"}, me.role));
}

// The instance, on every page

async function instance() {
  const [status, health] = await Promise.all([get("/status"), get("/health")]);
  nav.querySelector("[data-page=cluster]").hidden = !status.node;
  document.querySelector("#state").dataset.state = health.state;
  fill(document.querySelector("#state"), stateBadge(health.state), h("b", {}, status.name),
    h("span", {class: "soft"}, ` ${status.version}, up ${duration(status.now - status.started)}`));
}

greet().then(show, (error) => fill(page, wrong(error)));
every(INSTANCE, new AbortController().signal, () => instance().catch(() => {
  document.querySelector("#state").replaceChildren(badge("no answer", "bad"));
}));
