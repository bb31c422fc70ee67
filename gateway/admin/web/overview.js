// What needs attention, what happened lately, and the pipeline as a map: sources, routes, destinations.

import {every, get} from "./api.js";
import {badge, compact, draw, duration, fill, h, rate, sentence, stateBadge} from "./dom.js";
import {firstEvent} from "./first-event.js";
import {sparkline} from "./spark.js";

export const TITLE = "Overview";
const FRESH = 700;
const PAST_EVERY = 8; // times that the rest is refreshed
const WINDOWS = {"15m": "15 min", "1h": "1 hour", "24h": "24 hours"};
const WINDOW = "gateway-window";

export async function show(box, here, signal) {
  const attention = h("section", {class: "attention", "aria-label": "Needs attention"});
  const lately = h("section", {class: "lately", "aria-label": "Lately"});
  const lines = draw("svg", {class: "wires", "aria-hidden": "true"});
  const columns = ["Sources", "Routes", "Destinations"].map((name) => h("section", {"aria-label": name}, h("h2", {}, name), h("ul", {})));
  const house = h("div", {class: "house"}, lines, columns);
  const first = h("div", {hidden: true});
  fill(box, h("h1", {class: "out"}, TITLE), attention, first, lately, house);
  let latest = null;
  let times = 0;
  const again = () => latest && wire(house, lines, latest);
  const sizes = new ResizeObserver(again);
  sizes.observe(house);
  signal.addEventListener("abort", () => sizes.disconnect());
  const welcome = async (overview) => {
    if (latest || overview.stored || overview.sources.some((one) => one.accepted)) return;
    const listening = new AbortController();
    signal.addEventListener("abort", () => listening.abort(), {once: true});
    const done = () => { listening.abort(); first.hidden = true; lately.hidden = house.hidden = false; times = 0; };
    fill(first, await firstEvent(done, listening.signal));
    first.hidden = false;
    lately.hidden = house.hidden = true;
  };
  const refresh = async () => {
    const overview = await get("/overview", {}, signal);
    await welcome(overview);
    latest = overview;
    keep(attention, told(latest, !first.hidden));
    const [sources, routes, exits] = columns.map((column) => column.querySelector("ul"));
    const byName = (list) => Object.fromEntries(list.map((one) => [one.name, one]));
    const [entrances, states] = [byName(latest.health.sources), byName(latest.health.destinations)];
    keep(sources, latest.sources.map((one) => source(one, entrances[one.name])));
    keep(routes, latest.routes.map(route));
    keep(exits, latest.destinations.map((one) => exit(one, states[one.destination.name], latest.now)));
    if (!lately.hidden && times % PAST_EVERY === 0) await past(lately, signal);
    times += 1;
    again();
  };
  await every(FRESH, signal, refresh);
}

/** Returns the window of time that this browser has chosen. */
export const chosenWindow = () => localStorage.getItem(WINDOW) ?? "1h";

/** Returns buttons that choose the window, for all pages that show one. */
export function windowChoice(changed) {
  const buttons = Object.entries(WINDOWS).map(([name, label]) => h("button", {type: "button", "aria-pressed": String(name === chosenWindow()), onclick: () => {
    localStorage.setItem(WINDOW, name);
    for (const one of buttons) one.setAttribute("aria-pressed", String(one.textContent === label));
    changed();
  }}, label));
  return h("div", {class: "choice", role: "group", "aria-label": "Window of time"}, buttons);
}

async function past(box, signal) {
  const found = await get("/activity", {window: chosenWindow()}, signal);
  if (!box.firstChild) fill(box, windowChoice(() => past(box, signal)), h("div", {class: "tiles"}));
  const sum = (points) => points.reduce((total, one) => total + one, 0);
  const tile = (name, what, points, tone) => h("figure", {class: "tile"}, h("figcaption", {}, name), h("b", {class: sum(points) && tone === "bad" ? "bad" : null}, compact(sum(points))), h("span", {class: "soft"}, what), sparkline(points, tone));
  fill(box.lastChild,
    tile("In", "events accepted", found.accepted, "accent"), tile("Out", "deliveries", found.delivered, "good"),
    tile("Refused", "requests", found.refused, "bad"), tile("Dead", "deliveries given up", found.dead, "bad"),
    h("figure", {class: "tile"}, h("figcaption", {}, "Delay"), h("b", {}, duration(found.delay_p50)), h("span", {class: "soft"}, "median"),
      h("b", {}, duration(found.delay_p95)), h("span", {class: "soft"}, "95th percentile")));
}

/** Replaces the items of a list without taking the focus or an open detail away from one that stays. */
function keep(list, items) {
  const focused = document.activeElement?.closest("li")?.id;
  const open = new Set([...list.querySelectorAll("li:has(> details[open])")].map((one) => one.id));
  list.replaceChildren(...[items].flat(3).filter(Boolean));
  for (const id of open) list.querySelector(`#${CSS.escape(id)} > details`)?.setAttribute("open", "");
  if (focused) list.querySelector(`#${CSS.escape(focused)} a`)?.focus({preventScroll: true});
}

const NOTES = 3; // of the configuration; the page about it has the rest

function told({health, sources, started, now}, isFirst) {
  const notes = health.findings.filter((one) => one.level === "note");
  const shown = [...health.findings.filter((one) => one.level !== "note"), ...notes.slice(0, NOTES)];
  const list = shown.length > 0 && findings(shown, health);
  const rest = notes.length > NOTES && h("p", {class: "soft"}, h("a", {href: "#config"}, `${notes.length - NOTES} more configuration warnings`));
  if (isFirst || health.state !== "healthy") return [list, rest];
  const came = sources.some((one) => one.accepted);
  const unrouted = sources.reduce((sum, one) => sum + one.unrouted, 0);
  return [h("p", {class: came ? "fine" : "idle"},
    came ? "All routed events are delivered or on their way." : `Nothing has come in since the gateway started ${duration(now - started)} ago. Its parts are healthy.`,
    unrouted > 0 && ` ${compact(unrouted)} ${unrouted === 1 ? "event" : "events"} matched no route.`), list, rest];
}

/** Returns problems with their cures, as a list. */
export const findings = (list, health) => h("ul", {class: "findings"}, list.map((one) => finding(one, health)));

function finding(one, health) {
  const until = one.subject === "destination" && health.destinations.find(({name}) => name === one.name)?.until;
  return h("li", {class: one.level, "data-row": "", id: `finding-${one.subject}-${one.name}`},
    h("a", {href: `#${one.page}`}, one.headline), one.cure && h("p", {}, sentence(one.cure), until && h("span", {class: "when"}, ` Next attempt in ${duration(Math.max(0, until - health.now))}.`)),
    one.detail && h("details", {}, h("summary", {}, "What the vendor said"), h("pre", {tabindex: "0"}, one.detail)));
}

function source(one, state) {
  return h("li", {id: `source-${one.name}`, class: `card ${state?.state}`},
    h("a", {href: `#events?source=${encodeURIComponent(one.name)}`}, one.name),
    h("span", {class: "soft"}, (one.preset || one.vendor) + (one.mount ? ` at ${one.mount}` : "")),
    state && stateBadge(state.state),
    h("span", {class: "figure"}, h("b", {}, rate(one.accepted_rate)), h("span", {class: "soft"}, `${compact(one.accepted)} since start`),
      state?.refused_rate > 0 && h("span", {class: "bad"}, `${rate(state.refused_rate)} refused`)),
    one.unrouted > 0 && h("span", {class: "soft"}, `${compact(one.unrouted)} matched no route`, one.unrouted_rate > 0 && `, ${rate(one.unrouted_rate)} now`));
}

function route(one, number) {
  return h("li", {id: `route-${number}`, class: "card"},
    h("a", {href: "#config"}, one.name),
    one.fallback && h("span", {class: "soft"}, "fallback: events that no other route takes"),
    one.conditions.map((text) => h("code", {title: text}, text)),
    one.steps.length > 0 && h("span", {class: "steps"}, one.steps.map((word) => h("span", {}, word))),
    h("span", {class: "figure"}, h("b", {}, rate(one.routed_rate)), h("span", {class: "soft"}, `${compact(one.routed)} since start`)),
    one.filtered > 0 && h("span", {class: "soft"}, `${compact(one.filtered)} filtered by its steps`, one.filtered_rate > 0 && `, ${rate(one.filtered_rate)} now`));
}

function exit({destination: one, delivered, delivered_rate: arriving, failed_rate: failing}, state, now) {
  return h("li", {id: `exit-${one.name}`, class: `card ${state?.state}`},
    h("a", {href: `#destinations/${encodeURIComponent(one.name)}`}, one.name),
    h("span", {class: "soft"}, one.preset || one.vendor), one.shadow && badge("shadow", "calm"), state && stateBadge(state.state),
    h("span", {class: "figure"}, h("b", {}, rate(arriving)), h("span", {class: "soft"}, `${compact(delivered)} since start`),
      failing > 0 && h("span", {class: "bad"}, `${rate(failing)} failing`)),
    one.pending > 0 && h("span", {class: "soft"}, `${compact(one.pending)} pending`, one.oldest !== null && `, oldest ${duration(now - one.oldest)}`),
    one.dead_letters > 0 && h("span", {class: "bad"}, `${compact(one.dead_letters)} dead letter${one.dead_letters === 1 ? "" : "s"}`));
}

/** Draws the way from each source over each route to each destination, as thick as what the route gives on. */
function wire(house, lines, {sources, routes, health}) {
  const origin = house.getBoundingClientRect();
  const side = (id, right) => {
    const found = house.querySelector(`#${CSS.escape(id)}`)?.getBoundingClientRect();
    return found && {x: (right ? found.right : found.left) - origin.left, y: found.top + Math.min(found.height / 2, 26) - origin.top};
  };
  const rates = Object.fromEntries(sources.map((one) => [one.name, one.accepted_rate]));
  const states = Object.fromEntries(health.destinations.map((one) => [one.name, one.state]));
  const paths = routes.flatMap((one, number) => [
    ...one.sources.map((name) => curve(side(`source-${name}`, true), side(`route-${number}`, false), Math.min(rates[name] ?? 0, one.routed_rate + one.filtered_rate), "")),
    ...one.destinations.map((name) => curve(side(`route-${number}`, true), side(`exit-${name}`, false), one.routed_rate, states[name] ?? "")),
  ]);
  lines.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  lines.replaceChildren(...paths.filter(Boolean));
}

function curve(from, to, perSecond, state) {
  if (!from || !to || to.x <= from.x) return null;
  const middle = (from.x + to.x) / 2;
  const wide = 1.25 + Math.min(5, Math.log10(1 + perSecond) * 1.8);
  return draw("path", {d: `M${from.x} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`,
    "stroke-width": wide.toFixed(2), class: `${perSecond > 0 ? "flows" : ""} ${state}`});
}
