// The vendors, and how their fields and the event's are tied.

import {get} from "./api.js";
import {badge, empty, fill, h, table} from "./dom.js";

export const TITLE = "Vendors";

export async function show(box, here, signal) {
  return here.id ? showOne(box, here.id, signal) : showAll(box, signal);
}

async function showAll(box, signal) {
  const {vendors} = await get("/vendors", {}, signal);
  fill(box, h("h1", {}, TITLE), table("Vendors", ["Name", "What the gateway does", "n Endpoints", "Its document"], vendors.map((one) => ({props: {"data-row": ""}, cells: [
    h("a", {href: `#vendors/${one.name}`}, one.name),
    [one.input && badge("takes", "good"), one.output && badge("sends", "good")], one.endpoints.length,
    h("a", {href: one.docs, rel: "noreferrer noopener", target: "_blank"}, one.docs.replace(/^https?:\/\//, "")),
  ]}))));
}

async function showOne(box, name, signal) {
  const {vendor, tables} = await get(`/vendors/${encodeURIComponent(name)}`, {}, signal);
  const field = h("input", {type: "search", placeholder: "Field, theirs or ours", "aria-label": "Show only fields with this text", "data-search": "", oninput: () => narrow(box, field.value.toLowerCase())});
  fill(box, h("nav", {class: "crumbs", "aria-label": "Way back"}, h("a", {href: "#vendors"}, TITLE), " / "), h("h1", {}, vendor.name),
    h("p", {class: "soft"}, "Of several spellings the first that is present is read, and the first is written."),
    h("div", {class: "tools"}, field), tables.map(section),
    vendor.unsupported.length > 0 && [h("h2", {}, "Not translated"), h("p", {class: "soft"}, "Documented, and no events: passed through where the source has a url."), h("ul", {class: "bullets"}, vendor.unsupported.map((one) => h("li", {}, h("code", {}, one))))]);
}

function section(one) {
  return h("section", {class: "mapped"}, h("h2", {}, one.endpoints.map((path) => h("code", {}, path))),
    one.meanings.length > 0 && h("details", {}, h("summary", {}, `What ${one.field} may say`), h("dl", {class: "pairs"}, one.meanings.map(({word, event}) => [h("dt", {}, h("code", {}, word)), h("dd", {}, event)]))),
    one.rows.length ? table(`Fields of ${one.endpoints.join(", ")}`, ["Theirs", "Ours", "How it changes", "Notes"], one.rows.map(fieldRow)) : empty("It has no fields."));
}

function fieldRow(row) {
  const few = row.words.length > 0 && h("span", {class: "soft"}, ` in ${row.words.slice(0, 4).join(", ")}${row.words.length > 4 ? ` and ${row.words.length - 4} more` : ""}`);
  return {props: {"data-text": [...row.wire, row.event, row.codec, row.note].join(" ").toLowerCase()}, cells: [
    row.wire.map((path, i) => [i > 0 && " or ", h("code", {}, path)]), row.event ? h("code", {}, row.event) : h("span", {class: "soft"}, "not passed on"),
    row.codec, [row.required && badge("required", "plain"), row.note, few],
  ]};
}

function narrow(box, text) {
  for (const row of box.querySelectorAll("[data-text]")) row.hidden = !row.dataset.text.includes(text);
}
