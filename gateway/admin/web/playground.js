// The playground: what would become of a request, without sending it.

import {get, post} from "./api.js";
import {copy, curl} from "./curl.js";
import {empty, fill, h} from "./dom.js";
import {requestView} from "./request.js";

export const TITLE = "Playground";

export async function show(box, here, signal) {
  const {sources} = await get("/playground", {}, signal);
  const field = {
    source: h("select", {name: "source", id: "from"}, sources.map((one) => h("option", {value: one.name}, `${one.name} (${one.vendor})`))),
    path: h("select", {name: "path", id: "path"}),
    body: h("textarea", {name: "body", id: "body", rows: "16", spellcheck: "false", required: true}),
  };
  const only = h("fieldset", {class: "choices"}, h("legend", {}, "Destinations"));
  const result = h("div", {class: "result"});
  const form = h("form", {class: "ask"},
    h("div", {class: "row"}, h("label", {for: "from"}, "Source"), field.source, h("label", {for: "path"}, "Endpoint"), field.path),
    h("label", {for: "body"}, "Body"), field.body, only,
    h("div", {class: "tools"}, h("button", {type: "submit", class: "main"}, "Show every step"), h("button", {type: "button", onclick: () => copied(sources, form)}, "Copy as curl")));
  fill(box, h("h1", {}, TITLE), h("p", {class: "soft"}, "See what the running configuration would do with a request. Nothing is sent."), h("div", {class: "bench"}, form, result));
  const choose = () => {
    const one = sources.find(({name}) => name === field.source.value);
    fill(field.path, one.endpoints.map((path) => h("option", {value: path, selected: path === one.example.path}, path)));
    field.body.value = one.example.body;
    fill(result);
  };
  field.source.addEventListener("change", choose);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const told = await post("/explain", {source: field.source.value, path: field.path.value, body: field.body.value}, signal);
    destinations(only, told, () => fill(result, told.refused_reason ? refusal(told) : picked(told, only)));
  });
  choose();
}

function destinations(box, told, changed) {
  const names = [...new Set(told.request.events.flatMap((event) => event.deliveries.map((one) => one.destination)))];
  const known = new Set([...box.querySelectorAll("input")].filter((one) => !one.checked).map((one) => one.value));
  fill(box, h("legend", {}, "Destinations"), names.map((name) => h("label", {class: "check"}, h("input", {type: "checkbox", value: name, checked: !known.has(name), onchange: changed}), name)));
  changed();
}

function picked(told, box) {
  const shown = new Set([...box.querySelectorAll("input:checked")].map((one) => one.value));
  const events = told.request.events.map((event) => ({...event, deliveries: event.deliveries.filter((one) => shown.has(one.destination))}));
  return [told.response && h("p", {}, "Response to the sender: ", h("code", {}, `${told.response.status}`), " ", h("code", {}, told.response.body || "(no body)")), requestView({...told.request, events}, false)];
}

function refusal(told) {
  return empty("The request would be refused.", h("p", {}, told.refused_reason), told.response && h("p", {}, "Response to the sender: ", h("code", {}, `${told.response.status}`), " ", h("code", {}, told.response.body)));
}

async function copied(sources, form) {
  const one = sources.find(({name}) => name === form.source.value);
  await copy(curl(one, form.path.value, form.body.value), one.key_missing ? "Copied. Replace YOUR_KEY by a key of the source before you run it." : "Copied");
}
