// The vendors, and which of their fields maps to which field of the event.

import {get} from "./api.js";
import {badge, empty, fill, h, table} from "./dom.js";

export const TITLE = "Vendors";

export async function show(box, here, signal) {
  return here.id ? showOne(box, here.id, signal) : showAll(box, signal);
}

async function showAll(box, signal) {
  const {vendors} = await get("/vendors", {}, signal);
  fill(box, h("h1", {}, TITLE), table("Vendors", ["Name", "Usable as", "n Endpoints", "Vendor's documentation"], vendors.map((one) => ({props: {"data-row": ""}, cells: [
    h("a", {href: `#vendors/${one.name}`}, one.name),
    [one.input && badge("source", "good"), one.output && badge("destination", "good")], one.endpoints.length,
    h("a", {href: one.docs, rel: "noreferrer noopener", target: "_blank"}, one.docs.replace(/^https?:\/\//, "")),
  ]}))));
}

async function showOne(box, name, signal) {
  const {vendor, tables} = await get(`/vendors/${encodeURIComponent(name)}`, {}, signal);
  const field = h("input", {type: "search", placeholder: "Filter fields", "aria-label": "Show only fields with this text", "data-search": "", oninput: () => narrow(box, field.value.toLowerCase())});
  fill(box, h("nav", {class: "crumbs", "aria-label": "Breadcrumb"}, h("a", {href: "#vendors"}, TITLE), " / "), h("h1", {}, vendor.name),
    h("p", {class: "soft"}, "Where a vendor has several names for a field, the first one present is read, and the first one listed is written."),
    h("div", {class: "tools"}, field), tables.map(section),
    vendor.unsupported.length > 0 && [h("h2", {}, "Not translated"), h("p", {class: "soft"}, "Documented by the vendor, but not events: relayed to the vendor if the source has a url."), h("ul", {class: "bullets"}, vendor.unsupported.map((one) => h("li", {}, h("code", {}, one))))]);
}

function section(one) {
  return h("section", {class: "mapped"}, h("h2", {}, one.endpoints.map((path) => h("code", {}, path))),
    one.meanings.length > 0 && h("details", {}, h("summary", {}, "Values of ", h("code", {}, one.field)), h("dl", {class: "pairs"}, one.meanings.map(({word, event}) => [h("dt", {}, h("code", {}, word)), h("dd", {}, event)]))),
    one.rows.length ? table(`Fields of ${one.endpoints.join(", ")}`, ["Vendor field", "Event field", "Codec", "Notes"], one.rows.map(fieldRow)) : empty("No fields."));
}

function fieldRow(row) {
  const few = row.words.length > 0 && h("span", {class: "soft"}, ` only in ${row.words.slice(0, 4).join(", ")}${row.words.length > 4 ? ` and ${row.words.length - 4} more` : ""}`);
  return {props: {"data-text": [...row.wire, row.event, row.codec, row.note].join(" ").toLowerCase()}, cells: [
    row.wire.map((path, i) => [i > 0 && " or ", h("code", {}, path)]), row.event ? h("code", {}, row.event) : h("span", {class: "soft"}, "not passed on"),
    row.codec, [row.required && badge("required", "plain"), row.note, few],
  ]};
}

function narrow(box, text) {
  for (const row of box.querySelectorAll("[data-text]")) row.hidden = !row.dataset.text.includes(text);
}
