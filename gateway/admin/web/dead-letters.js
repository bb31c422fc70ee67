// Dead letters: groups by reason, details, replay and deletion with progress.

import {get, post} from "./api.js";
import {clock, count, duration, empty, fill, h, isOperator, moment, operation, table, toast} from "./dom.js";

export const TITLE = "Dead letters";
const PAGE = 100;
const AT_ONCE = 50; // ids in one call, so that progress shows

export async function show(box, here, signal) {
  if (here.id) return showOne(box, here.id, signal);
  const {destination, cause, reason_pattern} = here.query;
  return reason_pattern ? showGroup(box, {destination, cause, reason_pattern}, signal) : showGroups(box, {destination, cause}, signal);
}

async function showGroups(box, which, signal) {
  const {groups} = await get("/dead-letter-groups", which, signal);
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  const again = () => showGroups(box, which, signal);
  fill(box, h("h1", {}, TITLE),
    which.destination && h("p", {class: "soft"}, `Only ${which.destination}. `, h("a", {href: "#dead-letters"}, "Show all")),
    total ? [tools({filter: clean(which)}, total, again, signal), table("Dead letters by reason", ["Destination", "Reason", "n Count", "n Latest (UTC)"], groups.map(groupRow))]
      : empty("No dead letters.", "Events that a destination refuses, or that cannot be delivered after all attempts, appear here with the reason. You can replay or delete them."));
}

const clean = (which) => Object.fromEntries(Object.entries(which).filter(([, value]) => value));
const address = (which) => `#dead-letters?${new URLSearchParams(clean(which))}`;

function groupRow(group) {
  const {destination, cause, reason_pattern} = group;
  return {props: {"data-row": ""}, cells: [
    destination, [h("a", {href: address({destination, cause, reason_pattern})}, group.reason || "(no reason)"), h("span", {class: "soft"}, ` ${cause}`)],
    count(group.count), h("span", {class: "when"}, moment(group.last).slice(0, 19)),
  ]};
}

async function showGroup(box, which, signal) {
  const chosen = new Map();
  const bar = h("div", {class: "bar-of-acts"});
  const body = h("div");
  const more = h("button", {type: "button", hidden: true}, "Show more");
  const again = () => showGroup(box, which, signal);
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#dead-letters"}, TITLE), " / "),
    h("h1", {class: "long"}, which.reason_pattern), h("p", {class: "soft"}, `Destination: ${which.destination ?? "all"} · cause: ${which.cause ?? "all"}${which.reason_pattern.includes("#") ? " · # stands for any number" : ""}`), bar, body, more);
  let after = 0;
  const list = table("Dead letters of this reason", ["", "Id", "Event", "User", "Reason", "n Attempts", "Time (UTC)"], []);
  const rows = list.querySelector("tbody");
  const acts = () => fill(bar, chosen.size ? tools({ids: [...chosen.keys()]}, chosen.size, again, signal) : tools({filter: clean(which)}, null, again, signal));
  const all = h("input", {type: "checkbox", "aria-label": "Select all shown", onchange: () => {
    for (const field of rows.querySelectorAll("input")) {
      if (field.checked !== all.checked) field.click();
    }
  }});
  list.querySelector("th").append(all);
  const load = async () => {
    const page = await get("/dead-letters", {...which, after, limit: PAGE}, signal);
    after = page.next;
    more.hidden = after === null;
    rows.append(...page.dead_letters.map((letter) => letterRow(letter, chosen, acts)));
    return page.dead_letters.length;
  };
  more.addEventListener("click", load);
  fill(body, await load() ? list : empty("No dead letters left with this reason.", h("p", {}, h("a", {href: "#dead-letters"}, "Show all dead letters"))));
  acts();
}

function letterRow(letter, chosen, changed) {
  const field = h("input", {type: "checkbox", "aria-label": `Select dead letter ${letter.id}`, onchange: () => {
    if (field.checked) chosen.set(letter.id, letter);
    else chosen.delete(letter.id);
    changed();
  }});
  const cells = [isOperator() && field, h("a", {href: `#dead-letters/${letter.id}`, class: "id"}, letter.id), letter.event_name, letter.user,
    h("span", {class: "why", title: letter.reason}, letter.reason), count(letter.attempts), clock(letter.at)];
  return h("tr", {"data-row": ""}, cells.map((cell, i) => h("td", {class: i === 5 ? "n" : null}, cell)));
}

/** Returns the buttons that move dead letters: those of ids, or all of a filter. */
function tools(which, number, done, signal) {
  const box = h("div", {class: "tools"});
  const label = (verb) => `${verb} ${number === null ? "all with this reason" : count(number)}`;
  const act = (verb, word, props) => operation(label(verb === "replay" ? "Replay" : "Delete"), async () => {
    if (verb === "delete" && !confirm(`Delete ${number === null ? "all dead letters with this reason" : `${count(number)} dead letter${number === 1 ? "" : "s"}`}? This cannot be undone.`)) return;
    await move(box, verb, word, which, number, signal);
    await done();
  }, props);
  return fill(box, act("replay", "replayed", {class: "main"}), act("delete", "deleted", {}));
}

async function move(box, verb, word, which, number, signal) {
  const bar = h("progress", number === null ? {} : {max: number, value: 0});
  const said = h("span", {role: "status"});
  const stop = new AbortController();
  fill(box, bar, said, h("button", {type: "button", onclick: () => stop.abort()}, "Stop"));
  let moved = 0;
  for await (const step of steps(verb, which)) {
    moved += step;
    bar.value = moved;
    said.textContent = `${count(moved)} ${word}`;
    if (stop.signal.aborted || signal.aborted) break;
  }
  toast(moved ? `${count(moved)} dead letter${moved === 1 ? "" : "s"} ${word}` : "There was nothing left to do");
}

async function* steps(verb, which) {
  if (which.ids) {
    for (let at = 0; at < which.ids.length; at += AT_ONCE) {
      yield (await post(`/dead-letters/${verb}`, {ids: which.ids.slice(at, at + AT_ONCE)})).moved;
    }
    return;
  }
  const filter = {...which.filter, until: Date.now() / 1000};
  for (let after = 0; after !== null;) {
    const found = await post(`/dead-letters/${verb}`, {filter, after});
    after = found.next;
    yield found.moved;
  }
}

async function showOne(box, id, signal) {
  const {dead_letter: letter, received, sent, attempts} = await get(`/dead-letters/${encodeURIComponent(id)}`, {}, signal);
  const facts = [
    ["Destination", h("a", {href: `#destinations/${encodeURIComponent(letter.destination)}`}, letter.destination)],
    ["Failed", `${moment(letter.at)}, cause: ${letter.cause}`], ["Reason", letter.reason], ["Event", letter.event_name], ["User", letter.user || "(none)"],
    ["Trace", h("a", {href: `#events/${encodeURIComponent(letter.event)}`, class: "id"}, letter.event)],
  ];
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#dead-letters"}, TITLE), " / "),
    h("h1", {}, `Dead letter ${letter.id}`), tools({ids: [letter.id]}, 1, () => { location.hash = "dead-letters"; }, signal),
    h("dl", {class: "pairs"}, facts.map(([name, what]) => [h("dt", {}, name), h("dd", {}, what)])),
    h("div", {class: "panes"}, whole(`Received by source ${letter.source}`, received), sent ? whole("Last request sent", sent) : h("section", {class: "pane"}, h("h2", {}, "Nothing was sent"))),
    attempts.length > 0 && [h("h2", {}, "Attempts"), h("ol", {class: "attempts"}, attempts.map((one) => h("li", {}, h("time", {}, moment(one.at)), ` ${one.status ?? "no response"} in ${duration(one.latency)}`, one.response_excerpt && h("pre", {tabindex: "0"}, one.response_excerpt))))]);
}

function whole(name, request) {
  return h("section", {class: "pane", "aria-label": name}, h("h2", {}, name), h("p", {class: "line"}, h("code", {}, `${request.method} ${request.url}`)),
    h("dl", {class: "pairs"}, Object.entries(request.headers).map(([header, value]) => [h("dt", {}, header), h("dd", {}, value)])),
    h("pre", {tabindex: "0"}, request.unread || request.body || "(no body)"));
}
