// The vendors, and which of their fields maps to which field of the event.

import {get} from "./api.js";
import {badge, empty, fill, h, table} from "./dom.js";

export const TITLE = "Vendors";
const HEADS = ["Name", "Usable as", "n Endpoints", "Vendor's documentation"];
const FIELD_HEADS = ["Vendor", "Endpoint", "Vendor field", "Event field", "Codec", "Notes"];
const SHORTEST = 2; // characters that search fields as well
const MOST = 200; // fields that a search shows

export async function show(box, here, signal) {
  return here.id ? showOne(box, here.id, signal) : showAll(box, signal);
}

async function showAll(box, signal) {
  const {vendors} = await get("/vendors", {}, signal);
  const field = h("input", {type: "search", placeholder: "Vendor, endpoint or field", "aria-label": "Search vendors, endpoints and fields", "data-search": "", oninput: () => search(field.value.trim().toLowerCase())});
  const list = h("div");
  const hits = h("div", {"aria-live": "polite"});
  fill(box, h("h1", {}, TITLE), h("div", {class: "tools"}, field), list, hits);
  const names = (text) => vendors.filter((one) => !text || [one.name, one.docs, ...one.endpoints].join(" ").toLowerCase().includes(text));
  const show = (some) => fill(list, some.length > 0 && table("Vendors", HEADS, some.map((one) => ({props: {"data-row": ""}, cells: [
    h("a", {href: `#vendors/${one.name}`}, one.name),
    [one.input && badge("source", "good"), one.output && badge("destination", "good")], one.endpoints.length,
    h("a", {href: one.docs, rel: "noreferrer noopener", target: "_blank"}, one.docs.replace(/^https?:\/\//, "")),
  ]}))));
  let details = null;
  const search = async (text) => {
    const found = names(text);
    show(found);
    if (text.length < SHORTEST) {
      fill(hits);
      return;
    }
    details ??= Promise.all(vendors.map((one) => get(`/vendors/${encodeURIComponent(one.name)}`, {}, signal)));
    const all = await details;
    if (field.value.trim().toLowerCase() !== text) return;
    const rows = all.flatMap(({vendor, tables}) => tables.flatMap((one) => one.rows.filter((row) => textOf(row).includes(text)).map((row) => ({vendor, one, row}))));
    fill(hits, rows.length ? [h("h2", {}, rows.length > MOST ? `Fields, the first ${MOST} of ${rows.length}` : "Fields"), table("Fields", FIELD_HEADS, rows.slice(0, MOST).map(({vendor, one, row}) => {
      const {cells} = fieldRow(row);
      return [h("a", {href: `#vendors/${vendor.name}`}, vendor.name), h("code", {}, one.endpoints.join(", ")), ...cells];
    }))] : !found.length && empty("Nothing has this text."));
  };
  show(vendors);
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

const textOf = (row) => [...row.wire, row.event, row.codec, row.note].join(" ").toLowerCase();

function fieldRow(row) {
  const few = row.words.length > 0 && h("span", {class: "soft"}, ` only in ${row.words.slice(0, 4).join(", ")}${row.words.length > 4 ? ` and ${row.words.length - 4} more` : ""}`);
  return {props: {"data-text": textOf(row)}, cells: [
    row.wire.map((path, i) => [i > 0 && " or ", h("code", {}, path)]), row.event ? h("code", {}, row.event) : h("span", {class: "soft"}, "not passed on"),
    row.codec, [row.required && badge("required", "plain"), row.note, few],
  ]};
}

function narrow(box, text) {
  for (const row of box.querySelectorAll("[data-text]")) row.hidden = !row.dataset.text.includes(text);
}
