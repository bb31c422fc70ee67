// The first screen of a new gateway: send an event, and see it arrive.

import {get, tail} from "./api.js";
import {copy, curl} from "./curl.js";
import {clock, fill, h, outcome} from "./dom.js";

const MOST = 12; // arrivals that are shown

/** Returns the screen; it listens until `signal` says to stop. */
export async function firstEvent(done, signal) {
  const {sources} = await get("/playground", {}, signal);
  const state = h("span", {class: "soft", role: "status"});
  const arrivals = h("ol", {class: "arrivals", "aria-live": "polite"}, h("li", {class: "soft"}, "Nothing yet. The first request appears here as soon as it arrives."));
  let count = 0;
  const take = (line) => {
    if (!count) fill(arrivals);
    count += 1;
    arrivals.prepend(arrival(line));
    while (arrivals.children.length > MOST) arrivals.lastChild.remove();
    more.hidden = false;
  };
  const more = h("button", {type: "button", class: "main", hidden: true, onclick: done}, "Go to the overview");
  tail({}, take, (text) => { state.textContent = text; }, signal).catch(() => { state.textContent = "not connected; reload this page"; });
  return h("section", {class: "first", "aria-label": "Send a first event"},
    h("h2", {}, "Send a first event"),
    h("p", {class: "soft"}, "No event has come in yet. Run one of these commands in a terminal on the gateway's machine, or let your application send to the same address."),
    h("div", {class: "entrances"}, sources.map(entrance)),
    h("h2", {}, "See it arrive ", state), arrivals, more);
}

function entrance(one) {
  const command = curl(one);
  return h("section", {class: "card", "aria-label": one.name},
    h("h3", {}, one.name, h("span", {class: "soft"}, ` speaks ${one.vendor}`)),
    one.key_missing && h("p", {}, "Replace ", h("code", {}, "YOUR_KEY"), " by one of the keys of ", h("code", {}, `[sources.${one.name}]`), "."),
    h("pre", {tabindex: "0"}, command),
    h("button", {type: "button", onclick: () => copy(command, "Copied")}, "Copy"),
    h("a", {href: "#playground"}, "Try without sending"));
}

function arrival(line) {
  const id = line.event || line.request;
  return h("li", {}, clock(line.at), outcome(line.outcome), h("span", {}, line.destination ? `${line.source} → ${line.destination}` : line.source),
    h("a", {href: `#events/${encodeURIComponent(id)}`}, line.name || line.kind), line.reason && h("span", {class: "soft"}, line.reason));
}
