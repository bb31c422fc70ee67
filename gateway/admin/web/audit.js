// What operators did.

import {get} from "./api.js";
import {badge, empty, fill, h, moment, table} from "./dom.js";

export const TITLE = "Audit";

const WHO = {token: "token", proxy: "signed in by the proxy", command: "command on the machine", address: "no token is required"};

export async function show(box, here, signal) {
  const body = h("div", {});
  fill(box, h("h1", {}, TITLE), h("p", {class: "hint"}, "What operators did, the newest first."), body);
  const {entries, next} = await get("/audit", {before: here.query.before}, signal);
  if (!entries.length) {
    fill(body, empty("Nothing here.", "What operators do appears here: pauses, replays, deletions, reloads."));
    return;
  }
  fill(body, table("Actions", ["Time", "Who", "Action", "Target", "Result"], entries.map((one) => ({props: {"data-row": ""}, cells: [
    h("time", {datetime: new Date(one.at * 1000).toISOString()}, moment(one.at)),
    h("span", {title: WHO[one.via]}, one.name || "anyone on this machine"), one.action.replaceAll("_", " "), one.target,
    one.error ? [badge("failed", "bad"), ` ${one.error}`] : one.detail || "done",
  ]}))), next !== null && h("p", {}, h("a", {href: `#audit?before=${next}`}, "Older actions")));
}
