// The pipeline map: sources, routes, destinations; what needs attention first.

import {every, get} from "./api.js";
import {badge, compact, draw, duration, empty, fill, h, rate, sentence, stateBadge} from "./dom.js";

export const TITLE = "Overview";
const FRESH = 2000;

export async function show(box, here, signal) {
  const attention = h("section", {class: "attention", "aria-label": "Needs attention"});
  const lines = draw("svg", {class: "wires", "aria-hidden": "true"});
  const columns = ["Sources", "Routes", "Destinations"].map((name) => h("section", {"aria-label": name}, h("h2", {}, name), h("ul", {})));
  const house = h("div", {class: "house"}, lines, columns);
  fill(box, h("h1", {class: "out"}, TITLE), attention, house);
  let latest = null;
  const again = () => latest && wire(house, lines, latest);
  const sizes = new ResizeObserver(again);
  sizes.observe(house);
  signal.addEventListener("abort", () => sizes.disconnect());
  await every(FRESH, signal, async () => {
    latest = await get("/overview", {}, signal);
    fill(attention, told(latest));
    const [sources, routes, exits] = columns.map((column) => column.querySelector("ul"));
    const byName = (list) => Object.fromEntries(list.map((one) => [one.name, one]));
    const [entrances, states] = [byName(latest.health.sources), byName(latest.health.destinations)];
    keep(sources, latest.sources.map((one) => source(one, entrances[one.name])));
    keep(routes, latest.routes.map(route));
    keep(exits, latest.destinations.map((one) => exit(one, states[one.destination.name], latest.now)));
    again();
  });
}

/** Replaces the items of a list without taking the focus away from one that stays. */
function keep(list, items) {
  const focused = document.activeElement?.closest("li")?.id;
  list.replaceChildren(...items);
  if (focused) list.querySelector(`#${CSS.escape(focused)} a`)?.focus({preventScroll: true});
}

const NOTES = 3; // of the configuration; the page about it has the rest

function told({health, sources}) {
  const notes = health.findings.filter((one) => one.level === "note");
  const shown = [...health.findings.filter((one) => one.level !== "note"), ...notes.slice(0, NOTES)];
  if (shown.length) {
    return [h("ul", {class: "findings"}, shown.map(finding)),
      notes.length > NOTES && h("p", {class: "soft"}, h("a", {href: "#config"}, `${notes.length - NOTES} more configuration warnings`))];
  }
  if (sources.every((one) => one.accepted === 0)) {
    return empty("No events yet.", h("p", {}, "Send an event to a source. The ", h("a", {href: "#playground"}, "playground"), " shows what would happen to it, and copies an example request as curl."));
  }
  const unrouted = sources.reduce((sum, one) => sum + one.unrouted, 0);
  return h("p", {class: "fine"}, unrouted
    ? `All routed events are delivered or on their way. ${compact(unrouted)} ${unrouted === 1 ? "event" : "events"} matched no route.`
    : "All events are delivered or on their way.");
}

function finding(one) {
  return h("li", {class: one.level, "data-row": "", id: `finding-${one.subject}-${one.name}`},
    h("a", {href: `#${one.page}`}, one.headline), one.cure && h("p", {}, sentence(one.cure)),
    one.detail && h("details", {}, h("summary", {}, "What the vendor said"), h("pre", {tabindex: "0"}, one.detail)));
}

function source(one, state) {
  return h("li", {id: `source-${one.name}`, class: `card ${state?.state}`},
    h("a", {href: `#events?source=${encodeURIComponent(one.name)}`}, one.name),
    h("span", {class: "soft"}, one.vendor + (one.mount ? ` at ${one.mount}` : "")),
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
    h("span", {class: "soft"}, one.vendor), one.shadow && badge("shadow", "calm"), state && stateBadge(state.state),
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
