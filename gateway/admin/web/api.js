// The admin API. What it is, its OpenAPI document says.

const TOKEN = "gateway-token";
const MARK = "x-gateway-admin";

export class Problem extends Error {
  constructor(status, said) {
    super(said.detail ?? `HTTP ${status}`);
    this.status = status;
    this.problems = said.problems ?? [];
    this.field = said.field ?? "";
  }
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? {...more, authorization: `Bearer ${token}`} : more;
}

/** Asks for the token until it is right; the console calls this when it is told 401. */
async function ask() {
  const dialog = document.querySelector("#login");
  const field = document.querySelector("#token");
  document.querySelector("#token-wrong").hidden = !sessionStorage.getItem(TOKEN);
  field.value = "";
  if (!dialog.open) dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, {once: true}));
  if (field.value) sessionStorage.setItem(TOKEN, field.value);
  field.value = "";
}

let asking = null;

async function call(path, options) {
  for (;;) {
    const answer = await fetch(`/api/v1${path}`, {...options, headers: headers(options.headers ?? {}), cache: "no-store", credentials: "omit"});
    if (answer.status === 401) {
      asking ??= ask().finally(() => { asking = null; });
      await asking;
      continue;
    }
    if (answer.ok) return answer;
    let said = {};
    try { said = await answer.json(); } catch { /* the status says enough */ }
    throw new Problem(answer.status, said);
  }
}

export function query(values) {
  const said = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return said.length ? `?${new URLSearchParams(said)}` : "";
}

export async function get(path, values = {}, signal = undefined) {
  return (await call(path + query(values), {signal})).json();
}

export async function post(path, body = undefined, signal = undefined) {
  const sent = {[MARK]: "1"};
  if (body !== undefined) sent["content-type"] = "application/json";
  const answer = await call(path, {method: "POST", headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal});
  return answer.json();
}

/**
 * Calls `take` with each line as it happens, until `signal` says to stop.
 *
 * An EventSource cannot send the token, and a cookie would be sent to the gateway's other address too.
 */
export async function tail(values, take, say, signal) {
  while (!signal.aborted) {
    let why = "";
    try {
      const answer = await call(`/tail${query(values)}`, {signal});
      say("live");
      await each(answer.body.pipeThrough(new TextDecoderStream()).getReader(), take, say);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) throw error;
      if (error instanceof Ended) why = error.message;
    }
    say(why || "connection lost; reconnecting");
    await new Promise((done) => setTimeout(done, 1000));
  }
}

class Ended extends Error {} // the gateway says why a stream ends

async function each(reader, take, say) {
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("event: ended")) throw new Ended(JSON.parse(part.slice(part.indexOf("data: ") + 6)).reason);
      if (/^event: (dropped|skipped)/.test(part)) say("too many events; some are not shown");
      else if (part.startsWith("data: ")) take(JSON.parse(part.slice(6)));
    }
  }
}

/** Calls `act` now and then, one call at a time, while the page is looked at. */
export async function every(milliseconds, signal, act) {
  while (!signal.aborted) {
    if (!document.hidden) await act();
    await new Promise((done) => {
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, {once: true});
    });
  }
}
