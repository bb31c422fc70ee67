// Every call of Segment's library for Node.js: node segment.mjs URL WRITE_KEY CALLS_PER_REQUEST
import { Analytics } from "@segment/analytics-node";
import { make } from "./calls.mjs";

const [host, writeKey, perRequest] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, flushAt: Number(perRequest) });
const errors = [];
analytics.on("error", (error) => errors.push(String(error.reason ?? error.code)));

const told = make(analytics);
await analytics.closeAndFlush();
console.log(JSON.stringify({ told: await Promise.all(told), errors }));
