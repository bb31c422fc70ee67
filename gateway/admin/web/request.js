// A request from end to end, side by side: received, the event, what each destination got.

import {badge, clock, duration, fill, h, moment, outcome} from "./dom.js";

export function requests(found) {
  return found.length > 1
    ? [h("p", {class: "soft"}, `${found.length} requests, newest first.`), found.map((one, i) => h("details", {open: i === 0}, h("summary", {}, title(one)), requestView(one)))]
    : found.map((one) => requestView(one));
}

const title = (one) => `${one.at === null ? "" : `${moment(one.at)} · `}${one.source} · ${one.events.map((event) => event.name).join(", ") || one.refused_reason}`;

export function requestView(one, happened = true) {
  return h("article", {class: "request"},
    happened && h("p", {class: "facts"},
      one.at !== null && ["Received ", clock(one.at)], one.source && [" by ", h("b", {}, one.source), ` (${one.vendor})`], one.node && ` at ${one.node}`,
      one.status !== null && [`, answered ${one.status}`], one.refused_reason && [". ", badge("refused", "bad"), ` ${one.refused_reason}`]),
    happened && one.received === null && h("p", {class: "soft"}, "The received request is no longer stored."),
    one.events.length > 0 && h("p", {class: "soft hint"}, "Point at a field, or focus it, to highlight the same field in every other column. Fields with a dotted underline have no counterpart in the other columns."),
    one.events.length ? one.events.map((event) => eventView(event, one.received)) : one.received && h("div", {class: "panes"}, pane("Received", one.received)),
    one.omitted_events > 0 && h("p", {class: "soft"}, `${one.omitted_events} more events of this request are not shown. Search for one by its id.`));
}

const SEVERITY = ["dead_letter", "refused", "retry", "pending", "duplicate", "declined", "shadowed", "finished", "sent", "delivered"];

/** Returns the deliveries in groups, the worst first; those that are alike and sent nothing are one group. */
function grouped(deliveries) {
  const groups = new Map();
  const worst = [...deliveries].sort((one, other) => SEVERITY.indexOf(one.outcome) - SEVERITY.indexOf(other.outcome));
  for (const one of worst) {
    const plain = !one.sent && !one.dead_letter && !one.attempts.length;
    const key = plain ? JSON.stringify([one.outcome, one.reason, one.next_step, one.route]) : `${one.destination} ${one.route}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

function eventView(event, received) {
  const groups = grouped(event.deliveries);
  const exits = groups.map((group) => {
    const made = delivery(group[0], group);
    made.tabIndex = -1;
    return made;
  });
  const panes = h("div", {class: "panes"});
  const neutral = h("section", {class: "pane", "aria-label": "Neutral event"},
    h("h3", {}, "Event"), h("p", {class: "soft"}, event.name === event.type ? event.type : `${event.type} · ${event.name}`),
    event.dropped_fields.length > 0 && h("p", {class: "soft"}, "Dropped by the tracking plan: ", listed(event.dropped_fields), "."),
    event.fields.length ? fields(event.fields) : h("p", {class: "soft"}, "The event cannot be rebuilt from the trace: the stored body is truncated, or the plugin has changed."));
  const gone = new Set(event.dropped_fields);
  fill(panes, received && pane("Received", received, gone), neutral, exits);
  linked(panes);
  return h("section", {class: "event", "aria-label": event.event},
    h("h2", {}, event.name, " ", h("span", {class: "soft id"}, event.event), event.duplicate && badge("duplicate, not delivered", "calm")),
    event.violations.length > 0 && h("ul", {class: "violations"}, event.violations.map((text) => h("li", {}, badge("violates the tracking plan", "warn"), text))),
    ways(event, groups, exits), decisions(event.decisions, event.steps), panes);
}

/** Returns how the event stands with each destination that a route leads to, in one line. */
function ways({deliveries, decisions}, groups, exits) {
  const gone = new Set(deliveries.map((one) => one.destination));
  const others = new Map();
  for (const one of [...decisions.filter((said) => said.filtered), ...decisions]) {
    for (const to of one.destinations) if (!gone.has(to) && !others.has(to)) others.set(to, one);
  }
  const reveal = (pane) => {
    pane.scrollIntoView({block: "nearest", inline: "center"});
    pane.focus({preventScroll: true});
  };
  const items = [
    ...groups.flatMap((group, i) => group.map((one) => h("button", {type: "button", onclick: () => reveal(exits[i])}, h("b", {}, one.destination), " ", outcome(one.outcome)))),
    ...[...others].map(([to, said]) => h("span", {title: said.filtered || said.reason}, h("b", {}, to), " ", said.filtered ? badge("filtered", "warn") : badge("not routed", "plain"))),
  ];
  return items.length > 0 && h("ul", {class: "ways", "aria-label": "Status at each destination"}, items.map((item) => h("li", {}, item)));
}

/** Returns paths as a sentence has them. */
const listed = (paths) => paths.map((path, i) => [i > 0 && ", ", h("code", {}, path)]);

/** Returns a request; its fields that are `gone` went no further. */
function pane(name, payload, gone, ...more) {
  return h("section", {class: "pane", "aria-label": name},
    h("h3", {}, name), h("p", {class: "line"}, h("code", {}, `${payload.method} ${payload.url}`)), more,
    payload.fields.length ? fields(payload.fields, gone) : h("pre", {tabindex: "0"}, payload.body || "(no body)"),
    h("details", {}, h("summary", {}, "Headers"), h("dl", {class: "pairs"}, Object.entries(payload.headers).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
}

/** Returns the attempts, folded: how many, when the last one was, and runs of the same answer as one line. */
function attemptsOf({attempts}) {
  if (!attempts.length) return null;
  const runs = [];
  for (const one of attempts) {
    const last = runs.at(-1);
    if (last && last.at(-1).node === one.node && last.at(-1).status === one.status && last.at(-1).response_excerpt === one.response_excerpt) last.push(one);
    else runs.push([one]);
  }
  const ago = duration(Math.max(0, Date.now() / 1000 - attempts.at(-1).at));
  const name = attempts.length === 1 ? "1 attempt" : `${attempts.length} attempts, last ${ago} ago`;
  const line = (run) => {
    const [first, last] = [run[0], run.at(-1)];
    const when = run.length > 1 ? [`${run.length} × `, clock(first.at), " to ", clock(last.at)] : clock(last.at);
    return h("li", {}, when, ` ${last.status ?? "no response"} in ${duration(last.seconds)}${last.node && ` from ${last.node}`} `, outcome(last.outcome), last.response_excerpt && h("pre", {tabindex: "0"}, last.response_excerpt));
  };
  return h("details", {}, h("summary", {}, name), h("ol", {class: "attempts"}, runs.map(line)));
}

/** Returns what became of a delivery; `group` has all deliveries of which the same is to say. */
function delivery(one, group) {
  const losses = new Map(one.losses.map((loss) => [loss.path, loss.kind]));
  const reasons = new Map(one.losses.map((loss) => [loss.path, loss.reason]));
  const head = [
    h("p", {}, outcome(one.outcome), one.route && h("span", {class: "soft"}, ` after the steps of route “${one.route}”`)),
    one.reason && h("p", {class: one.outcome === "finished" ? null : "reason"}, one.reason),
    one.next_step && h("p", {}, one.next_step),
    one.dead_letter && h("p", {}, "Since ", clock(one.dead_letter.at), ": ", h("a", {href: `#dead-letters/${one.dead_letter.id}`}, `dead letter ${one.dead_letter.id}`)),
    one.changes.length > 0 && h("div", {class: "losses"}, h("h4", {}, `Changed by the steps of route “${one.route}”`), h("ul", {}, one.changes.map(({path, kind}) => h("li", {"data-link": path, tabindex: "0"}, h("code", {}, path), badge(kind, "plain")))),
      one.omitted_changes > 0 && h("p", {class: "soft"}, `and ${one.omitted_changes} more`)),
    losses.size > 0 && h("div", {class: "losses"}, h("h4", {}, "Lost or changed at this destination"), h("ul", {}, [...losses].map(([path, kind]) => h("li", {"data-link": path, tabindex: "0", title: reasons.get(path) || null}, h("code", {}, path), reasons.get(path) && h("span", {class: "soft"}, reasons.get(path)), badge(kind, kind === "lost" ? "bad" : "warn"))))),
  ];
  const tail = attemptsOf(one);
  const name = group.map(({destination, vendor}) => (vendor ? `${destination} · ${vendor}` : destination)).join(", ");
  if (one.sent) {
    const made = pane(name, one.sent, undefined, head);
    if (tail) made.append(tail);
    return made;
  }
  return h("section", {class: "pane", "aria-label": name}, h("h3", {}, name), head,
    h("p", {class: "soft"}, one.outcome === "finished" ? "The request sent was not traced." : "Nothing was sent."), tail);
}

/** Returns fields as a list; those that are tied to the same field of the event light up together. */
function fields(list, gone = new Set()) {
  return h("ul", {class: "fields"}, list.map((one) => h("li", {"data-link": one.link, class: one.link && !gone.has(one.path) ? null : "alone"},
    h("span", {class: "path"}, broken(one.path), gone.has(one.path) && [" ", badge("dropped", "warn")]), value(one.value))));
}

/** Lets a long path break where its parts meet. */
const broken = (path) => path.split(/(?<=[.\]])/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));

function value(held) {
  const kind = held === null ? "none" : typeof held;
  return h("span", {class: `value ${kind}`}, kind === "string" ? held : JSON.stringify(held));
}

function linked(panes) {
  const all = [...panes.querySelectorAll("[data-link]")].filter((one) => one.dataset.link);
  const partners = (link) => all.filter((one) => one.dataset.link === link);
  for (const one of all) {
    if (partners(one.dataset.link).length > 1) one.tabIndex = 0;
  }
  const light = (target, on) => {
    const here = target.closest?.("[data-link]");
    for (const one of all) one.classList.toggle("lit", on && Boolean(here?.dataset.link) && one.dataset.link === here.dataset.link);
  };
  panes.addEventListener("mouseover", (event) => light(event.target, true));
  panes.addEventListener("mouseleave", (event) => light(event.target, false));
  panes.addEventListener("focusin", (event) => light(event.target, true));
  panes.addEventListener("focusout", (event) => light(event.target, false));
}

function stepTaken(step) {
  const written = (held) => (held === null ? "(missing)" : JSON.stringify(held));
  return h("p", {class: "step"}, badge(step.word, step.filtered ? "warn" : "plain"), step.filtered,
    !step.filtered && !step.changes.length && h("span", {}, "no change"),
    step.changes.map((one) => h("span", {}, h("code", {}, one.path), `: ${written(one.before)} → ${written(one.after)}`)));
}

export function decisions(list, steps = []) {
  if (!list.length) return null;
  return h("details", {class: "decisions", open: true}, h("summary", {}, "Route decisions"),
    h("ol", {}, list.map((one) => h("li", {class: one.taken && !one.filtered ? "taken" : ""},
      badge(one.filtered ? "filtered" : one.taken ? "taken" : "not taken", one.filtered ? "warn" : one.taken ? "good" : "plain"),
      h("b", {}, one.route), " ", one.filtered || one.reason,
      one.routed_to.length > 0 && h("span", {class: "soft"}, ` → ${one.routed_to.join(", ")}`),
      one.decided_by && !one.filtered && h("code", {}, one.decided_by),
      steps.filter((step) => step.route === one.route).map(stepTaken)))));
}

