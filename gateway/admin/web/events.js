// Traces: the live tail, search, and one request from end to end.

import {get, tail} from "./api.js";
import {clock, duration, empty, fill, h, outcome, table, tableRow, unanswered} from "./dom.js";
import {requests} from "./request.js";

export const TITLE = "Events";
const PAGE = 100;
const MOST = 500; // rows that the live tail keeps
let own = ""; // the name of this gateway in its cluster
const heads = () => (own ? [...HEADS, "Gateway"] : HEADS);
const HEADS = ["Time (UTC)", "Outcome", "Source → destination", "Event", "User", "n Status", "n Duration", "Id"];

export async function show(box, here, signal) {
  if (here.id) return showOne(box, here.id, signal);
  const [known, status] = await Promise.all([get("/overview", {}, signal), get("/status", {}, signal)]);
  const nodes = status.node ? (await get("/cluster", {}, signal)).nodes.map((one) => one.name) : [];
  own = status.node;
  const filters = form(here.query, known, nodes);
  const live = h("button", {type: "button", "aria-pressed": "false", class: "live", title: status.node ? "What this gateway does" : null}, "Live");
  const state = h("span", {class: "soft", role: "status"});
  const list = h("div");
  const missing = h("div");
  const older = h("button", {type: "button", hidden: true}, "Show older");
  fill(box, h("h1", {}, TITLE), search(), h("div", {class: "tools"}, filters, live, state), missing, list, older);
  let watching = null;
  let next = null;

  const which = () => Object.fromEntries([...new FormData(filters)].filter(([, value]) => value));
  const load = async (before) => {
    const page = await get("/traces", {...which(), before, limit: PAGE}, signal);
    next = page.next;
    fill(missing, unanswered(page.silent));
    older.hidden = next === null;
    return page.lines;
  };
  const start = async () => {
    const lines = await load();
    fill(list, lines.length ? rowsOf(lines) : nothing(Object.keys(which()).length > 0));
  };
  const watch = (on) => {
    watching?.abort();
    watching = null;
    live.setAttribute("aria-pressed", String(on));
    state.textContent = "";
    if (!on) return;
    watching = new AbortController();
    signal.addEventListener("abort", () => watching?.abort(), {once: true});
    const {node, ...rest} = which(); // a gateway streams only what it does itself
    follow(list, state, rest, watching.signal);
  };
  filters.addEventListener("change", async () => {
    history.replaceState(null, "", `#events?${new URLSearchParams(which())}`);
    await start();
    watch(watching !== null);
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  live.addEventListener("click", () => watch(watching === null));
  older.addEventListener("click", async () => {
    const more = await load(next);
    list.querySelector("tbody")?.append(...more.map(row));
  });
  await start();
}

function nothing(narrowed) {
  return narrowed
    ? empty("No traces match these filters.", "Remove a filter. Under load only some successes are traced; failures always are.")
    : empty("No events yet.", h("p", {}, "Send an event to a source. The ", h("a", {href: "#playground"}, "playground"), " shows what would happen to it, and copies an example request as curl."));
}

function search() {
  const field = h("input", {type: "search", name: "id", placeholder: "Request, event, message or user id", "aria-label": "Find by id", "data-search": "", spellcheck: "false", autocomplete: "off"});
  return h("form", {class: "find", role: "search", onsubmit: (event) => {
    event.preventDefault();
    if (field.value.trim()) location.hash = `events/${encodeURIComponent(field.value.trim())}`;
  }}, field, h("button", {type: "submit"}, "Find"));
}

function form(chosen, {sources, destinations}, nodes) {
  const select = (name, label, names) => h("label", {}, label, h("select", {name},
    h("option", {value: ""}, "any"), names.map((one) => h("option", {value: one, selected: chosen[name] === one}, one))));
  const text = (name, label, hint) => h("label", {}, label, h("input", {name, value: chosen[name] ?? "", placeholder: hint, size: "14", spellcheck: "false"}));
  return h("form", {class: "filters"},
    select("source", "Source", sources.map((one) => one.name)),
    select("destination", "Destination", destinations.map((one) => one.destination.name)),
    nodes.length > 0 && select("node", "Gateway", nodes),
    text("name", "Event", "Product Viewed"), text("user", "User", "id"),
    h("label", {class: "check"}, h("input", {type: "checkbox", name: "failed", value: "true", checked: chosen.failed === "true"}), "failures only"));
}

const rowsOf = (lines) => {
  const made = table("Traces, newest first", heads(), []);
  made.querySelector("tbody").append(...lines.map(row));
  return made;
};

function row(line) {
  const id = line.event || line.request;
  const way = line.destination ? `${line.source} → ${line.destination}` : line.source;
  const cells = [
    clock(line.at), [outcome(line.outcome), line.reason && h("span", {class: "why", title: line.reason}, line.reason)],
    way, line.name || h("span", {class: "soft"}, line.kind), line.user_id || line.anonymous_id,
    line.status ?? "", line.seconds === null ? "" : duration(line.seconds),
    h("a", {href: `#events/${encodeURIComponent(id)}`, class: "id"}, id), line.node || own,
  ].slice(0, heads().length);
  return tableRow(heads(), cells, {class: line.kind, "data-row": ""});
}

/** Puts what happens on top, as often as the screen is drawn. */
async function follow(list, state, which, signal) {
  let coming = [];
  let drawn = 0;
  const put = () => {
    drawn = 0;
    if (!list.querySelector("tbody")) fill(list, rowsOf([]));
    const body = list.querySelector("tbody");
    body.prepend(...coming.slice(-MOST).reverse().map(row));
    while (body.rows.length > MOST) body.rows[body.rows.length - 1].remove();
    coming = [];
  };
  const take = (line) => {
    coming.push(line);
    drawn ||= requestAnimationFrame(put);
  };
  await tail(which, take, (text) => { state.textContent = text; }, signal);
}

async function showOne(box, id, signal) {
  const found = await get("/request", {id}, signal);
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#events"}, TITLE), " / "),
    h("h1", {class: "id"}, id), unanswered(found.silent), requests(found.requests));
}
