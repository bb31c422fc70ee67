// The configuration: the file with what `gateway check` finds in it, what differs, and what runs.

import {get, post} from "./api.js";
import {badge, count, fill, h, operation, table, toast} from "./dom.js";

export const TITLE = "Config";
const TABLES = ["server", "spool", "admin", "trace", "log", "consent", "alerts"];

export async function show(box, here, signal) {
  const [running, checked] = await Promise.all([get("/config", {}, signal), get("/config/check", {}, signal)]);
  const again = () => show(box, here, signal);
  fill(box, h("h1", {}, TITLE), state(checked, again), differences(checked), checked.files.map((file) => source(file, checked)), inForce(running));
}

function state(checked, again) {
  const reload = operation("Reload configuration", async () => {
    const done = await post("/config/reload");
    const parts = ["added", "changed", "removed"].filter((word) => done[word].length).map((word) => `${word} ${done[word].join(", ")}`);
    toast(["Reloaded", ...parts, ...done.restart_required.map((key) => `${key} needs a restart`)].join("; "));
    await again();
  }, {class: checked.differs && !checked.problems.length ? "main" : null});
  const said = checked.problems.length ? [badge("invalid", "bad"), " The file has errors. The gateway keeps running with the configuration below."]
    : checked.differs ? [badge("changed", "warn"), " The file differs from the running configuration. Reload it to apply the changes."]
      : [badge("up to date", "good"), " The file matches the running configuration."];
  const found = [...checked.problems.map((one) => [one, "bad"]), ...checked.warnings.map((one) => [one, "warn"])];
  return h("section", {class: "findings", "aria-label": "Configuration file"}, h("p", {}, said), h("div", {class: "tools"}, reload),
    found.length > 0 && h("ul", {}, found.map(([one, tone]) => h("li", {class: tone}, one.line && [place(one), " "], one.text))));
}

const anchor = (path, line) => `line-${line}-${path}`;

/** Returns a button that leads to the line of a finding. */
function place(one) {
  return h("button", {type: "button", class: "link", onclick: () => {
    const line = document.getElementById(anchor(one.path, one.line));
    line?.closest("details").setAttribute("open", "");
    line?.scrollIntoView({block: "center"});
    line?.focus();
  }}, `${one.path.split("/").at(-1)}:${one.line}`);
}

function differences(checked) {
  if (!checked.differs || checked.problems.length) return null;
  const words = ["added", "changed", "removed"].filter((word) => checked.reload[word].length);
  return h("section", {"aria-label": "Differences"}, h("h2", {}, "What a reload changes"),
    h("dl", {class: "pairs"}, words.map((word) => [h("dt", {}, word), h("dd", {}, h("code", {}, checked.reload[word].join(", ")))]),
      checked.reload.restart_required.length > 0 && [h("dt", {}, "needs a restart"), h("dd", {}, h("code", {}, checked.reload.restart_required.join(", ")))]),
    checked.changes.length > 0 && table("Differences", ["Setting", "Running", "File"], checked.changes.map((one) => [h("code", {}, one.path), value(one.running), value(one.file)])));
}

const value = (held) => (held === null ? h("span", {class: "soft"}, "not set") : h("code", {}, written(held)));

function source(file, checked) {
  const findings = [...checked.problems.map((one) => ({...one, tone: "bad"})), ...checked.warnings.map((one) => ({...one, tone: "warn"}))].filter((one) => one.path === file.path && one.line);
  return h("details", {class: "toml", open: true}, h("summary", {}, h("code", {}, file.path), h("span", {class: "soft"}, ` ${count(file.lines.length)} lines; credentials are hidden`)),
    h("ol", {tabindex: "0", role: "list", "aria-label": file.path}, file.lines.map((text, i) => {
      const found = findings.filter((one) => one.line === i + 1);
      return h("li", {id: anchor(file.path, i + 1), tabindex: found.length ? "-1" : null, class: found[0]?.tone},
        h("code", {class: kind(text)}, text || " "), found.map((one) => h("p", {}, one.text)));
    })));
}

function kind(text) {
  if (/^\s*#/.test(text)) return "comment";
  return /^\s*\[/.test(text) ? "header" : null;
}

function inForce({tables}) {
  return h("details", {class: "running"}, h("summary", {}, "Running configuration, with all defaults"),
    h("div", {class: "tables"},
      ["sources", "destinations"].flatMap((part) => Object.entries(tables[part]).map(([name, held]) => section(`[${part}.${name}]`, held))),
      tables.routes.map((held, i) => section(`[[routes]] #${i + 1}`, held)),
      TABLES.filter((name) => tables[name]).map((name) => section(`[${name}]`, tables[name]))));
}

function section(name, held) {
  const entries = Object.entries(held).filter(([, one]) => !nothing(one));
  return h("section", {class: "card"}, h("h2", {}, h("code", {}, name)), h("dl", {class: "pairs"}, entries.map(([key, one]) => [h("dt", {}, key), h("dd", {}, h("code", {}, written(one)))])));
}

function short(held) {
  const line = JSON.stringify(held);
  return line.length > 60 ? JSON.stringify(held, null, 1) : line;
}

const nothing = (held) => held === null || held === "" || (Array.isArray(held) && !held.length) || (typeof held === "object" && !Array.isArray(held) && !Object.keys(held).length);
const written = (held) => (typeof held === "string" ? held : short(held));
