// Replays of retained events: a list of jobs, and a form that counts before it delivers.

import {every, get, post} from "./api.js";
import {badge, count, empty, fill, h, isOperator, keepFocus, moment, operation, rate, sentence, table, toast} from "./dom.js";

export const TITLE = "Replays";
const FRESH = 1000;
const HEADS = ["Id", "Destination", "State", "Events", "Read", "n Given", "n Left out", "Began (UTC)", "Actions"];
const STATES = {running: "good", paused: "warn", done: "plain", cancelled: "plain"};

export async function show(box, here, signal) {
  return here.id ? showForm(box, here.query, signal) : showAll(box, signal);
}

const events = (number) => `${count(number)} event${number === 1 ? "" : "s"}`;
const unfinished = (job) => job.state === "running" || job.state === "paused";
const refusal = (reason) => h("p", {class: "idle"}, sentence(reason));

async function showAll(box, signal) {
  const tools = h("div");
  const list = h("div");
  const refresh = async () => {
    const {replays, refused_reason: reason} = await get("/replays", {}, signal);
    if (!tools.childNodes.length) {
      fill(tools, reason ? refusal(reason) : h("div", {class: "tools"}, operation("Replay…", () => { location.hash = "replays/new"; }, {class: "main"})));
    }
    keepFocus(list, () => fill(list, replays.length ? table("Replays, newest first", HEADS, replays.map((job) => jobRow(job, refresh)))
      : !reason && empty("No replays yet.", "A replay delivers retained events again: it fills a new destination with the past, or applies a mended mapping. Live events come first.")));
  };
  fill(box, h("h1", {}, TITLE), tools, list);
  await every(FRESH, signal, refresh);
}

function jobRow(job, refresh) {
  const {id, selection, counts} = job;
  return {props: {"data-row": "", id: `replay-${id}`}, cells: [
    String(id), h("a", {href: `#destinations/${encodeURIComponent(selection.to)}`}, selection.to),
    [badge(job.state, STATES[job.state]), selection.dry_run && badge("dry run", "calm"), job.reason && h("span", {class: "why wide"}, sentence(job.reason))],
    h("span", {class: "chosen"}, words(selection)), progress(job),
    count(counts.queued), [count(counts.repeated), counts.unreadable > 0 && h("span", {class: "why wide"}, unreadable(counts.unreadable))],
    h("span", {class: "when"}, moment(job.began).slice(0, 16)), unfinished(job) && h("span", {class: "acts"}, actions(job, refresh)),
  ]};
}

/** Returns how far a replay has read; what it has read last is 100 % only if it is at the end. */
function progress({id, progress: share, counts}) {
  const done = share >= 1 ? 100 : Math.min(99, Math.floor(share * 100));
  return h("span", {class: "read"}, h("progress", {max: 1, value: share, "aria-label": `Progress of replay ${id}`}),
    h("span", {}, `${done} %, ${count(counts.requests)} request${counts.requests === 1 ? "" : "s"}`));
}

/** Returns a selection in words. */
function words(chosen) {
  return [
    chosen.name === null ? "all events" : `“${chosen.name}”`, chosen.source !== null && ` of ${chosen.source}`,
    chosen.since > 0 && ` since ${moment(chosen.since)}`, chosen.until !== null && ` until ${moment(chosen.until)}`,
    chosen.when !== null && [" if ", h("code", {}, chosen.when)], chosen.through_routes ? ", through the routes" : "",
    chosen.again && ", including those that it already had", chosen.rate !== null && `, at most ${rate(chosen.rate)}`,
  ];
}

const unreadable = (number) => `${count(number)} request${number === 1 ? "" : "s"} cannot be read any more`;

function actions(job, refresh) {
  const act = (verb, label, said, props = {}) => operation(label, async () => {
    await post(`/replays/${job.id}/${verb}`);
    toast(`Replay ${job.id} ${said}`);
    await refresh();
  }, {...props, "aria-label": `${label} replay ${job.id}`});
  return [
    job.state === "paused" ? !job.reason && act("resume", "Resume", "goes on", {class: "main"}) : act("pause", "Pause", "is paused. What it gave to the destination is still delivered."),
    act("cancel", "Cancel", "is cancelled. What it gave to the destination is still delivered."),
  ];
}

// The form

const UNITS = {ms: 0.001, s: 1, m: 60, h: 3600, d: 86400};
const LOOK = 300; // milliseconds between two looks at a dry run

/** Returns a time as Unix seconds: "24h" before now, or ISO 8601, in UTC unless it has a zone. */
function time(text) {
  const ago = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text);
  if (ago) return Date.now() / 1000 - Number(ago[1]) * UNITS[ago[2]];
  const iso = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?\s*(Z|UTC|[+-]\d\d:\d\d)?$/.exec(text);
  const at = iso ? Date.parse(`${iso[1]}T${iso[2] ?? "00:00"}${iso[3]?.replace("UTC", "Z") ?? "Z"}`) : NaN;
  if (Number.isNaN(at)) throw new Error("Write 24h for 24 hours ago, or a time in UTC such as 2026-05-01 12:00.");
  return at / 1000;
}

/** Returns events per second: "200", "200/s" or "600/m". */
function perSecond(text) {
  const found = /^(\d+(?:\.\d+)?)\s*(?:\/\s*(s|m|h))?$/.exec(text);
  const value = found ? Number(found[1]) / UNITS[found[2] ?? "s"] : 0;
  if (!value) throw new Error("Write a number of events above 0, such as 200/s or 600/m.");
  return value;
}

const READ = {since: time, until: time, rate: perSecond};

async function showForm(box, query, signal) {
  const top = [h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#replays"}, TITLE), " / "), h("h1", {}, "Replay retained events")];
  const [{refused_reason: reason}, known] = await Promise.all([get("/replays", {}, signal), get("/overview", {}, signal)]);
  if (reason || !isOperator()) {
    fill(box, top, reason ? refusal(reason) : empty("Only operators can begin a replay."));
    return;
  }
  const found = h("section", {class: "found", "aria-label": "What would be delivered", role: "status"});
  const form = fields(query, known.destinations.map((one) => one.destination.name), known.sources.map((one) => one.name));
  let counting = new AbortController();
  signal.addEventListener("abort", () => counting.abort(), {once: true});
  const again = () => {
    counting.abort();
    counting = new AbortController();
    fill(found);
    wrong(form);
    return counting.signal;
  };
  form.addEventListener("input", again);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const current = again();
    const chosen = read(form);
    if (!chosen) return;
    await reported(form, async () => {
      const job = await counted(chosen, found, current);
      if (job) fill(found, result(job, chosen, form));
    });
  });
  fill(box, top, h("p", {class: "hint"}, "First count what would be delivered; nothing is sent until you say so. Events keep their ids and each user's order, and live events come first."), form, found);
}

function fields(query, destinations, sources) {
  const options = (names, chosen) => names.map((name) => h("option", {value: name, selected: name === chosen}, name));
  const field = (name, label, control, hint) => {
    control.setAttribute("name", name);
    control.id = `replay-of-${name}`;
    control.setAttribute("aria-describedby", `about-${name} wrong-${name}`);
    return h("div", {class: control.type === "checkbox" ? "field tick" : "field"}, h("label", {for: control.id}, label), control,
      h("p", {class: "soft", id: `about-${name}`}, hint), h("p", {class: "wrong", id: `wrong-${name}`, role: "alert"}));
  };
  const text = (hint = "") => h("input", {value: "", placeholder: hint, spellcheck: "false", autocomplete: "off"});
  const tick = () => h("input", {type: "checkbox"});
  return h("form", {class: "replay", novalidate: true},
    field("to", "To", h("select", {}, options(destinations, query.to)), "The destination that gets the events."),
    field("since", "Since", text("24h"), "24h for 24 hours ago, or a time in UTC. Empty: all that is retained."),
    field("until", "Until", text("2h"), "The same. Empty: until now."),
    field("source", "Source", h("select", {}, h("option", {value: ""}, "any"), options(sources)), "Only events of this source."),
    field("name", "Event", text("Order Completed"), "Only events with this neutral name."),
    field("rate", "Rate", text("200/s"), "At most so many events. The destination's own rate applies as well."),
    field("when", "Condition", h("textarea", {rows: 2, placeholder: "event.properties.total > 100.0", spellcheck: "false"}), "Only events for which this holds, as in a route."),
    field("through_routes", "Through the routes", tick(), "Only events that a route leads to the destination now, with the steps of that route. Otherwise all that match, as they came."),
    field("again", "Again", tick(), "Also events that the destination was meant to get when they arrived, or got from an earlier replay."),
    h("div", {class: "tools"}, h("button", {type: "submit", class: "main"}, "Count events"), h("p", {class: "wrong", id: "wrong-form", role: "alert"})));
}

/** Shows `text` at the field of that name, or below the form; without a text, none is wrong. */
function wrong(form, name = "", text = "") {
  for (const one of form.elements) one.removeAttribute("aria-invalid");
  for (const one of form.querySelectorAll(".wrong")) fill(one);
  if (!text) return;
  const control = form.elements.namedItem(name);
  fill(form.querySelector(control ? `#wrong-${name}` : "#wrong-form"), sentence(text));
  control?.setAttribute("aria-invalid", "true");
  control?.focus();
}

/** Returns the form as the API takes it; null if a field is wrong, which it then shows. */
function read(form) {
  const chosen = {};
  for (const [name, value] of new FormData(form)) {
    const text = value.trim();
    if (!text) continue;
    try {
      chosen[name] = text === "on" && form.elements.namedItem(name).type === "checkbox" ? true : READ[name] ? READ[name](text) : text;
    } catch (error) {
      wrong(form, name, error.message);
      return null;
    }
  }
  return chosen;
}

/** Calls `act`, and shows at its field what the gateway refuses. */
async function reported(form, act) {
  try {
    await act();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!error.status) throw error;
    wrong(form, error.field, error.message.replace(/^when: /, ""));
  }
}

/** Returns the dry run of a selection once it has ended; null if it was stopped. */
async function counted(chosen, found, signal) {
  let job = await post("/replays", {...chosen, dry_run: true});
  const {id} = job;
  const cancel = async () => post(`/replays/${id}/cancel`).catch((error) => { if (error.status !== 409) throw error; }); // 409: it has just ended
  const stop = operation("Stop", cancel);
  const seen = h("span");
  fill(found, h("div", {class: "moving"}, seen, stop));
  while (unfinished(job)) {
    fill(seen, "Counting… ", progress(job));
    await new Promise((done) => setTimeout(done, LOOK));
    if (signal.aborted) {
      await cancel();
      return null;
    }
    job = (await get("/replays")).replays.find((one) => one.id === id) ?? {...job, state: "cancelled"};
  }
  if (job.state === "done" && !signal.aborted) return job;
  if (!signal.aborted) fill(found);
  return null;
}

/** Returns what a dry run found, and the button that delivers exactly this. */
function result({began, counts, selection}, chosen, form) {
  const {queued, repeated} = counts;
  const begin = () => reported(form, async () => {
    const job = await post("/replays", {...chosen, until: selection.until ?? began});
    toast(`Replay ${job.id} to ${job.selection.to} is running`);
    location.hash = "replays";
  });
  return h("div", {class: "card"},
    h("p", {}, `${events(queued + repeated)} match${queued + repeated === 1 ? "es" : ""}; `, h("b", {}, events(queued)), ` would be delivered to ${selection.to}.`),
    repeated > 0 && h("p", {class: "soft"}, `${events(repeated)} ${repeated === 1 ? "is" : "are"} left out, since ${selection.to} had ${repeated === 1 ? "it" : "them"} already. “Again” adds ${repeated === 1 ? "it" : "them"}.`),
    counts.unreadable > 0 && h("p", {class: "soft"}, `${unreadable(counts.unreadable)}.`),
    queued > 0 && h("div", {class: "tools"}, operation(`Replay ${events(queued)}`, begin, {class: "main"})));
}
