// The running configuration, and what `gateway check` finds in the file as it is now.

import {get, post} from "./api.js";
import {badge, fill, h, operation, toast} from "./dom.js";

export const TITLE = "Config";
const TABLES = ["server", "spool", "admin", "trace", "log", "consent"];

export async function show(box, here, signal) {
  const [running, checked] = await Promise.all([get("/config", {}, signal), get("/config/check", {}, signal)]);
  const {tables} = running;
  fill(box, h("h1", {}, TITLE), h("p", {class: "soft"}, "The running configuration with all defaults; credentials are hidden. Read from ", running.files.map((file, i) => [i > 0 && ", ", h("code", {}, file)]), "."),
    findings(checked, () => show(box, here, signal)),
    h("div", {class: "tables"},
      ["sources", "destinations"].flatMap((kind) => Object.entries(tables[kind]).map(([name, held]) => section(`[${kind}.${name}]`, held))),
      tables.routes.map((held, i) => section(`[[routes]] #${i + 1}`, held)),
      TABLES.filter((name) => tables[name]).map((name) => section(`[${name}]`, tables[name]))));
}

function findings(checked, again) {
  const reload = operation("Reload configuration", async () => {
    const done = await post("/config/reload");
    const parts = ["added", "changed", "removed"].filter((word) => done[word].length).map((word) => `${word} ${done[word].join(", ")}`);
    toast(["Reloaded", ...parts, ...done.restart_required.map((key) => `${key} needs a restart`)].join("; "));
    await again();
  }, {class: checked.differs && !checked.problems.length ? "main" : null});
  const said = checked.problems.length ? [badge("invalid", "bad"), " The file has errors. The gateway keeps running with the configuration below."]
    : checked.differs ? [badge("changed", "warn"), " The file differs from the running configuration. Reload it to apply the changes."]
      : [badge("up to date", "good"), " The file matches the running configuration."];
  return h("section", {class: "findings", "aria-label": "Configuration file"}, h("p", {}, said), h("div", {class: "tools"}, reload),
    [...checked.problems.map((text) => [text, "bad"]), ...checked.warnings.map((text) => [text, "warn"])].length > 0 &&
      h("ul", {}, checked.problems.map((text) => h("li", {class: "bad"}, text)), checked.warnings.map((text) => h("li", {class: "warn"}, text))));
}

function section(name, held) {
  const entries = Object.entries(held).filter(([, value]) => !nothing(value));
  return h("section", {class: "card"}, h("h2", {}, h("code", {}, name)), h("dl", {class: "pairs"}, entries.map(([key, value]) => [h("dt", {}, key), h("dd", {}, h("code", {}, written(value)))])));
}

function short(value) {
  const line = JSON.stringify(value);
  return line.length > 60 ? JSON.stringify(value, null, 1) : line;
}

const nothing = (value) => value === null || value === "" || (Array.isArray(value) && !value.length) || (typeof value === "object" && !Array.isArray(value) && !Object.keys(value).length);
const written = (value) => (typeof value === "string" ? value : short(value));
