// Every call of RudderStack's library for Node.js: node rudderstack.mjs URL WRITE_KEY gzip|plain
import { subscribe } from "node:diagnostics_channel";
import Analytics from "@rudderstack/rudder-sdk-node";
import { make } from "./calls.mjs";

const [dataPlaneUrl, writeKey, body] = process.argv.slice(2);
const errors = [];
const sent = new Set();
subscribe("http.client.request.start", ({ request }) => {
  sent.add(`${request.getHeader("content-encoding") ?? "plain"} ${request.getHeader("content-type")}`);
});
const analytics = new Analytics(writeKey, {
  dataPlaneUrl,
  gzip: body === "gzip",
  errorHandler: (error) => errors.push(String(error)),
});

const told = make(analytics);
await analytics.flush();
console.log(JSON.stringify({ told: await Promise.all(told), errors, sent: [...sent] }));
