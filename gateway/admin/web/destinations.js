// Destinations: their state over the last hour; pause, resume and drain them.

import {every, get, post} from "./api.js";
import {chart} from "./chart.js";
import {badge, bytes, clock, compact, count, duration, empty, fill, h, keepFocus, moment, operation, outcome, rate, sentence, stateBadge, table, toast} from "./dom.js";
import {chosenWindow, windowChoice} from "./overview.js";
import {sparkline} from "./spark.js";

export const TITLE = "Destinations";
const FRESH = 3000;

export async function show(box, here, signal) {
  return here.id ? showOne(box, here.id, signal) : showAll(box, signal);
}

const HEADS = ["Name", "Vendor", "State", "n Delivered", "n Failed", "n Delay, p95", "n Behind", "n Oldest", "n Dead letters", "Deliveries", "Actions"];

async function showAll(box, signal) {
  const list = h("div");
  const spool = h("section", {class: "spool", "aria-label": "Spool"});
  const refresh = async () => {
    const [{destinations, health, now}, past, held] = await Promise.all([get("/overview", {}, signal), get("/activity", {window: chosenWindow()}, signal), get("/spool", {}, signal)]);
    const states = Object.fromEntries(health.destinations.map((one) => [one.name, one]));
    keepFocus(list, () => fill(list, table("Destinations", HEADS, destinations.map(({destination: one}) => destinationRow(one, states[one.name], past.destinations[one.name], now, refresh)))));
    fill(spool, spoolState(held));
  };
  fill(box, h("h1", {}, TITLE), windowChoice(refresh), list, h("h2", {}, "Spool"), spool);
  await every(FRESH, signal, refresh);
}

function destinationRow(one, state, past, now, refresh) {
  const address = `#destinations/${encodeURIComponent(one.name)}`;
  const share = past?.failed_share ?? null;
  return {props: {"data-row": "", id: `row-${one.name}`}, cells: [
    h("a", {href: address}, one.name), one.preset || one.vendor,
    [state && stateBadge(state.state), one.shadow && badge("shadow", "calm"), state?.headline && h("span", {class: "why wide", title: state.detail || null}, state.headline),
      state?.until && h("span", {class: "soft when"}, ` Next attempt in ${duration(Math.max(0, state.until - now))}.`)],
    past ? compact(past.delivered) : "", share === null ? "" : h("span", {class: share > 0 ? "bad" : null}, percent(share)),
    past?.delay_p95 == null ? "" : duration(past.delay_p95),
    state?.behind >= 1 ? duration(state.behind) : "", one.oldest === null ? "" : duration(Math.max(0, now - one.oldest)),
    one.dead_letters ? h("a", {href: `#dead-letters?destination=${encodeURIComponent(one.name)}`}, count(one.dead_letters)) : "0",
    past && sparkline(past.delivered_points, "good"), h("span", {class: "acts"}, actions(one, refresh)),
  ]};
}

const percent = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(share * 100)} %`);

function spoolState(held) {
  const share = held.bytes / held.max_bytes;
  const orphans = held.orphans.filter(({depth}) => depth.backlog + depth.retrying + depth.parked + depth.dead_letters > 0);
  return [
    h("p", {}, h("meter", {min: 0, max: 1, value: share, high: 0.8, "aria-label": "Spool usage"}), ` ${bytes(held.bytes)} of ${bytes(held.max_bytes)} used in `, h("code", {}, held.path), `; ${count(held.position)} requests written so far`),
    held.not_ready_reason && h("p", {class: "bad"}, held.not_ready_reason),
    orphans.length > 0 && [h("h3", {}, "Pending for removed destinations"), h("ul", {}, orphans.map(({name, depth}) => h("li", {}, `${name}: ${count(depth.backlog + depth.retrying + depth.parked)} pending, ${count(depth.dead_letters)} dead letters. To deliver them, add this destination to the configuration again.`)))],
  ];
}

async function showOne(box, name, signal) {
  const facts = h("section", {class: "facts", "aria-label": "Status"});
  const acts = h("div", {class: "tools"});
  const charts = [
    chart("Events per second", [{label: "delivered", colour: "--good", fill: "--good-wash"}, {label: "failed", colour: "--bad"}], (held) => rate(held), signal),
    chart("Attempt duration", [{label: "mean", colour: "--accent"}, {label: "95th percentile", colour: "--warn"}], (held) => duration(held), signal),
    chart("Pending", [{label: "deliveries", colour: "--accent", fill: "--accent-wash"}], (held) => compact(held), signal),
  ];
  const attempts = h("div");
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#destinations"}, TITLE), " / "),
    h("h1", {}, name), acts, facts, h("div", {class: "charts"}, charts),
    h("h2", {}, "Recent deliveries"), attempts);
  const refresh = async () => {
    const [one, health] = await Promise.all([get(`/destinations/${encodeURIComponent(name)}`, {}, signal), get("/health", {}, signal)]);
    fill(facts, factsOf(one, health.destinations.find((state) => state.name === name), health.now));
    buttons(acts, one, refresh);
    return one;
  };
  await refresh();
  await every(FRESH, signal, async () => {
    const [{destinations}] = await Promise.all([get("/history", {}, signal), refresh()]);
    draw(charts, destinations[name] ?? []);
    const {lines} = await get("/traces", {destination: name, limit: 25}, signal).catch(() => ({lines: []}));
    fill(attempts, lines.length ? recent(lines) : empty("No recent deliveries.", "Deliveries to this destination appear here with the vendor's response, as far as they are traced."));
  });
}

function draw([rates, latencies, backlog], samples) {
  const at = samples.map((one) => one.at);
  rates.update([at, samples.map((one) => one.delivered), samples.map((one) => one.failed)]);
  latencies.update([at, samples.map((one) => one.latency_mean), samples.map((one) => one.latency_p95)]);
  backlog.update([at, samples.map((one) => one.backlog)]);
}

function factsOf(one, state, now) {
  const facts = [
    ["State", [state && stateBadge(state.state), one.shadow && badge("shadow", "calm"), state?.headline && h("b", {}, sentence(state.headline)), state?.cure && ` ${sentence(state.cure)}`, one.refuses_reason && ` ${sentence(one.refuses_reason)}`]],
    state?.detail && ["The vendor said", h("code", {}, state.detail)],
    state?.until && ["Next attempt", `in ${duration(Math.max(0, state.until - now))}, ${moment(state.until)}`], ["Address", h("code", {}, one.url)], one.preset && ["Preset", one.preset], ["Vendor", h("a", {href: `#vendors/${one.vendor}`}, one.vendor)],
    ["Pending", `${count(Math.max(0, one.pending - one.retrying - one.parked))} new, ${count(one.retrying)} waiting to retry, ${count(one.parked)} parked behind an earlier event of the same user`],
    one.balance && ["Balance", balanceOf(one.balance)],
    one.oldest !== null && ["Oldest pending", moment(one.oldest)],
    one.paused_until !== null && ["Vendor asks to wait until", moment(one.paused_until)],
    one.shadow && ["Shadow", `${count(one.shadowed)} events compared; nothing is delivered`],
    ["Since start", `${count(one.delivered)} delivered, ${count(one.declined)} declined, ${count(one.retried)} retries, ${count(one.dead_lettered)} dead letters${one.dropped ? `, ${count(one.dropped)} dropped` : ""}`],
    ["Limits", `${count(one.concurrency)} ${one.concurrency === 1 ? "attempt" : "attempts"} at once${one.rate === null ? "" : `, at most ${rate(one.rate)}`}${one.max_backlog === null ? "" : `, backlog of at most ${count(one.max_backlog)} requests`}`],
    one.dead_letters > 0 && ["Dead letters", h("a", {href: `#dead-letters?destination=${encodeURIComponent(one.name)}`}, `${count(one.dead_letters)} to review`)],
  ];
  return h("dl", {class: "pairs"}, facts.filter(Boolean).map(([name, what]) => [h("dt", {}, name), h("dd", {}, what)]));
}

function balanceOf(held) {
  const parts = ["delivered", "declined", "shadowed", "dead_letters", "dropped", "pending"].filter((name) => held[name] || name === "delivered");
  return [`${count(held.accepted)} accepted = ${parts.map((name) => `${count(held[name])} ${name.replace("_", " ")}`).join(" + ")}`,
    held.unaccounted !== 0 && h("span", {class: "bad"}, `; ${count(Math.abs(held.unaccounted))} ${held.unaccounted > 0 ? "unaccounted for" : "too many"}`)];
}

/** Returns the buttons for what an operator can do now. */
function actions(one, refresh) {
  const act = (verb, label, done, props) => operation(label, async () => {
    await post(`/destinations/${encodeURIComponent(one.name)}/${verb}`);
    toast(`${one.name} ${done}`);
    await refresh();
  }, props);
  return one.state === "paused"
    ? [act("resume", "Resume", "is resumed", {class: "main"})]
    : [act("pause", "Pause", "is paused. New events wait in the spool.", {}),
      one.pending > 0 && act("drain", "Retry now", "retries everything pending", {title: "Sends everything pending at once, without waiting for retry times or an open circuit. The rate limit still applies."})];
}

function buttons(box, one, refresh) {
  const wanted = one.state === "paused" ? "resume" : one.pending > 0 ? "pause,drain" : "pause";
  if (box.dataset.acts === wanted) return;
  const held = box.contains(document.activeElement);
  box.dataset.acts = wanted;
  fill(box, actions(one, refresh), operation("Replay the past…", () => { location.hash = `replays/new?to=${encodeURIComponent(one.name)}`; }));
  if (held) box.querySelector("button")?.focus();
}

function recent(lines) {
  return table("Recent deliveries", ["Time (UTC)", "Outcome", "Event", "n Status", "n Duration", "Id"], lines.map((line) => ({props: {"data-row": ""}, cells: [
    clock(line.at), [outcome(line.outcome), line.reason && h("span", {class: "why", title: line.reason}, line.reason)], line.name,
    line.status ?? "", line.seconds === null ? "" : duration(line.seconds),
    h("a", {href: `#events/${encodeURIComponent(line.event)}`, class: "id"}, line.event),
  ]})));
}
