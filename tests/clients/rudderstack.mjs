// Every call of RudderStack's library for Node.js: node rudderstack.mjs URL WRITE_KEY gzip|plain
import Analytics from "@rudderstack/rudder-sdk-node";
import { make } from "./calls.mjs";

const [dataPlaneUrl, writeKey, body] = process.argv.slice(2);
const errors = [];
const analytics = new Analytics(writeKey, {
  dataPlaneUrl,
  gzip: body === "gzip",
  errorHandler: (error) => errors.push(String(error)),
});

const told = make(analytics);
await analytics.flush();
console.log(JSON.stringify({ told: await Promise.all(told), errors }));
