// The cluster: its gateways, who delivers which shard, and the streams of NATS.

import {every, get} from "./api.js";
import {badge, count, duration, fill, h, stateBadge, table} from "./dom.js";
import {findings} from "./overview.js";

export const TITLE = "Cluster";
const FRESH = 3000;

export async function show(box, here, signal) {
  const body = h("div");
  fill(box, h("h1", {}, TITLE), body);
  await every(FRESH, signal, async () => fill(body, parts(await get("/cluster", {}, signal))));
}

function parts(found) {
  const own = found.nodes.find((one) => one.name === found.node)?.config;
  return [
    found.healthy ? h("p", {class: "fine"}, "All gateways, shards and streams are as they should be.") : findings(found.findings),
    h("p", {class: "soft"}, "As ", h("b", {}, found.node), " sees it."),
    h("h2", {}, "Gateways"),
    table("Gateways", ["Name", "State", "Version", "n Up for", "n Shards", "Configuration"], found.nodes.map((one) => node(one, found, own))),
    h("h2", {}, "Shards"),
    table("Shards", ["n Shard", "Owner", "n Epoch", "n Pending", "n Behind"], found.shards.map(shard)),
    h("h2", {}, "Streams"),
    table("Streams", ["Name", "Leader", "n Replicas", "Away or behind"], found.streams.map(stream)),
  ];
}

function node(one, found, own) {
  const gone = one.state === "gone";
  const differs = !gone && one.config !== own;
  return {props: {"data-row": ""}, cells: [
    one.name, [stateBadge(one.state), gone && h("span", {class: "soft"}, ` silent for ${duration(one.silent)}`)], one.version,
    gone || !one.started ? "" : duration(Math.max(0, found.now - one.started)), count(found.shards.filter(({owner}) => owner === one.name).length),
    [h("code", {}, one.config.slice(0, 8)), differs && [" ", badge("differs", "bad")]],
  ]};
}

function shard(one) {
  return [
    String(one.number), one.owner || badge("nobody", "bad"), count(one.epoch),
    one.pending === null ? "?" : count(one.pending), one.lag >= 1 ? duration(one.lag) : "",
  ];
}

function stream(one) {
  const few = one.current < one.replicas || !one.current;
  const have = one.current ? `${one.current} of ${one.replicas}` : "no answer";
  return [one.name, one.leader, few ? badge(have, "bad") : have, one.behind.join(", ")];
}
