// Dead letters: filters, groups by reason, details; replay and delete them.

import {get} from "./api.js";
import {badge, clock, count, duration, empty, fill, h, isOperator, moment, oneLine, operation, table, tableRow} from "./dom.js";
import {move} from "./move-letters.js";

export const TITLE = "Dead letters";
const PAGE = 100;
const GROUP_HEADS = ["Destination", "Cause", "Reason", "n Count", "n Latest (UTC)", "Actions"];
const LETTER_HEADS = ["", "Id", "Event", "User", "Reason", "n Attempts", "Time (UTC)"];
const CAUSES = ["refused", "expired", "unrenderable", "overflow"];
const SINCE = {3600: "last hour", 86400: "last 24 hours", 604800: "last 7 days"};
const FILTERS = ["destination", "cause", "event_name", "user", "reason", "newer"];

export async function show(box, here, signal) {
  if (here.id) return showOne(box, here.id, signal);
  const {destination, cause, reason_pattern} = here.query;
  return reason_pattern ? showGroup(box, {destination, cause, reason_pattern}, signal) : showGroups(box, here.query, signal);
}

const clean = (which) => Object.fromEntries(Object.entries(which).filter(([, value]) => value));
const address = (which) => `#dead-letters?${new URLSearchParams(clean(which))}`;

/** Returns the filter as the API takes it; how old is said by the moment of the question. */
function asked({newer, ...which}) {
  return clean({...which, since: newer && Date.now() / 1000 - Number(newer)});
}

async function showGroups(box, query, signal) {
  const chosen = clean(Object.fromEntries(FILTERS.map((name) => [name, query[name]])));
  const {destinations} = await get("/overview", {}, signal);
  const filters = form(chosen, destinations.map((one) => one.destination.name));
  const outcome = h("div");
  const list = h("div");
  const which = () => clean(Object.fromEntries(new FormData(filters)));
  const refresh = async () => {
    const {groups} = await get("/dead-letter-groups", asked(which()), signal);
    const total = groups.reduce((sum, group) => sum + group.count, 0);
    const names = [...new Set(groups.map((group) => group.destination))];
    fill(list, total
      ? [acts({filter: asked(which())}, total, names, outcome, refresh, signal), table("Dead letters by reason", GROUP_HEADS, groups.map((group) => groupRow(group, which(), outcome, refresh, signal)))]
      : Object.keys(which()).length ? empty("No dead letters match these filters.", h("p", {}, h("a", {href: "#dead-letters"}, "Show all")))
        : empty("No dead letters.", "Events that a destination refuses, or that cannot be delivered after all attempts, appear here with the reason. You can replay or delete them."));
  };
  filters.addEventListener("change", async () => {
    history.replaceState(null, "", address(which()));
    await refresh();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  fill(box, h("h1", {}, TITLE), h("div", {class: "tools"}, filters), outcome, list);
  await refresh();
}

function form(chosen, destinations) {
  const select = (name, label, options) => h("label", {}, label, h("select", {name}, h("option", {value: ""}, "any"), options.map(([value, text]) => h("option", {value, selected: chosen[name] === value}, text))));
  const text = (name, label, hint) => h("label", {}, label, h("input", {name, value: chosen[name] ?? "", placeholder: hint, size: "14", spellcheck: "false"}));
  return h("form", {class: "filters"},
    select("destination", "Destination", destinations.map((name) => [name, name])), select("cause", "Cause", CAUSES.map((name) => [name, name])),
    text("event_name", "Event", "Product Viewed"), text("user", "User", "id"), text("reason", "Reason contains", "HTTP 422"),
    select("newer", "Age", Object.entries(SINCE)));
}

function groupRow(group, filters, outcome, refresh, signal) {
  const {destination, cause, reason_pattern} = group;
  const which = {filter: asked({...filters, destination, cause, reason_pattern})};
  return {props: {"data-row": ""}, cells: [
    destination, badge(cause, "bad"), h("a", {href: address({destination, cause, reason_pattern}), class: "reason", title: group.reason}, oneLine(group.reason) || "(no reason)"),
    count(group.count), h("span", {class: "when"}, moment(group.last).slice(0, 19)),
    acts(which, group.count, [destination], outcome, refresh, signal, {class: "acts"}, false),
  ]};
}

/** Returns the buttons that replay or delete `number` dead letters. */
function acts(which, number, destinations, outcome, done, signal, props = {class: "tools"}, main = true) {
  const act = (verb, label, more) => operation(label, () => move(verb, which, number, destinations, outcome, done, signal), more);
  return h("div", props, act("replay", `Replay ${count(number)}…`, {class: main ? "main" : null}), act("delete", `Delete ${count(number)}…`, {}));
}

async function showGroup(box, which, signal) {
  const chosen = new Map();
  const [outcome, bar, body] = [h("div"), h("div", {class: "bar-of-acts"}), h("div")];
  const more = h("button", {type: "button", hidden: true}, "Show more");
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#dead-letters"}, TITLE), " / "),
    h("h1", {class: "long"}, which.reason_pattern), h("p", {class: "soft"}, `Destination: ${which.destination ?? "all"} · cause: ${which.cause ?? "all"}${which.reason_pattern.includes("#") ? " · # stands for any number" : ""}`), bar, outcome, body, more);
  let [after, total, names] = [0, 0, []];
  const list = table("Dead letters of this reason", LETTER_HEADS, []);
  const rows = list.querySelector("tbody");
  const tools = () => fill(bar, chosen.size ? acts({ids: [...chosen.keys()]}, chosen.size, names, outcome, again, signal) : total > 0 && acts({filter: clean(which)}, total, names, outcome, again, signal));
  const all = h("input", {type: "checkbox", "aria-label": "Select all shown", onchange: () => {
    for (const field of rows.querySelectorAll("input")) {
      if (field.checked !== all.checked) field.click();
    }
  }});
  if (isOperator()) list.querySelector("th").append(all);
  const load = async () => {
    const page = await get("/dead-letters", {...which, after, limit: PAGE}, signal);
    after = page.next;
    more.hidden = after === null;
    rows.append(...page.dead_letters.map((letter) => letterRow(letter, chosen, tools)));
  };
  const again = async () => {
    const {groups} = await get("/dead-letter-groups", clean(which), signal);
    total = groups.reduce((sum, group) => sum + group.count, 0);
    names = groups.map((group) => group.destination);
    chosen.clear();
    all.checked = false;
    after = 0;
    rows.replaceChildren();
    await load();
    fill(body, rows.rows.length ? list : empty("No dead letters left with this reason.", h("p", {}, h("a", {href: "#dead-letters"}, "Show all dead letters"))));
    tools();
  };
  more.addEventListener("click", load);
  await again();
}

function letterRow(letter, chosen, changed) {
  const field = h("input", {type: "checkbox", "aria-label": `Select dead letter ${letter.id}`, onchange: () => {
    if (field.checked) chosen.set(letter.id, letter);
    else chosen.delete(letter.id);
    changed();
  }});
  const cells = [isOperator() && field, h("a", {href: `#dead-letters/${letter.id}`, class: "id"}, letter.id), letter.event_name, letter.user,
    h("span", {class: "why", title: letter.reason}, oneLine(letter.reason)), count(letter.attempts), clock(letter.at)];
  return tableRow(LETTER_HEADS, cells, {"data-row": ""});
}

async function showOne(box, id, signal) {
  const {dead_letter: letter, received, sent, attempts} = await get(`/dead-letters/${encodeURIComponent(id)}`, {}, signal);
  const facts = [
    ["Destination", h("a", {href: `#destinations/${encodeURIComponent(letter.destination)}`}, letter.destination)],
    ["Failed", `${moment(letter.at)}, cause: ${letter.cause}`], ["Reason", letter.reason], ["Event", letter.event_name], ["User", letter.user || "(none)"],
    ["Trace", h("a", {href: `#events/${encodeURIComponent(letter.event)}`, class: "id"}, letter.event)],
  ];
  const outcome = h("div");
  const bar = h("div");
  fill(bar, acts({ids: [letter.id]}, 1, [letter.destination], outcome, () => fill(bar), signal));
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#dead-letters"}, TITLE), " / "),
    h("h1", {}, `Dead letter ${letter.id}`), bar, outcome,
    h("dl", {class: "pairs"}, facts.map(([name, what]) => [h("dt", {}, name), h("dd", {}, what)])),
    h("div", {class: "panes"}, whole(`Received by source ${letter.source}`, received), sent ? whole("Last request sent", sent) : h("section", {class: "pane"}, h("h2", {}, "Nothing was sent"))),
    attempts.length > 0 && [h("h2", {}, "Attempts"), h("ol", {class: "attempts"}, attempts.map((one) => h("li", {}, h("time", {}, moment(one.at)), ` ${one.status ?? "no response"} in ${duration(one.latency)}`, one.response_excerpt && h("pre", {tabindex: "0"}, one.response_excerpt))))]);
}

function whole(name, request) {
  return h("section", {class: "pane", "aria-label": name}, h("h2", {}, name), h("p", {class: "line"}, h("code", {}, `${request.method} ${request.url}`)),
    h("dl", {class: "pairs"}, Object.entries(request.headers).map(([header, value]) => [h("dt", {}, header), h("dd", {}, value)])),
    h("pre", {tabindex: "0"}, request.unread || request.body || "(no body)"));
}
