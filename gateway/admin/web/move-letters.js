// Replay or delete dead letters: ask first, show the progress, then what became of them.

import {get, post} from "./api.js";
import {count, fill, h, stateBadge, toast} from "./dom.js";

const AT_ONCE = 50; // ids in one call, so that progress shows
const TURN = 500; // milliseconds between two calls of a slow replay
const RATES = {"": "as fast as possible", 10: "10 per second", 100: "100 per second"};
const FOLLOWED = 1000; // milliseconds between two looks at what became of them

const letters = (number) => `${count(number)} dead letter${number === 1 ? "" : "s"}`;
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Returns the dialog's answer: null, or the rate; it is gone afterwards. */
async function ask(title, body, act, tone) {
  const rate = h("select", {id: "replay-rate"}, Object.entries(RATES).sort().map(([value, text]) => h("option", {value}, text)));
  const dialog = h("dialog", {"aria-labelledby": "ask-title", class: "ask-first"},
    h("form", {method: "dialog"}, h("h2", {id: "ask-title"}, title), body,
      tone === "replay" && h("p", {}, h("label", {for: "replay-rate"}, "Rate "), rate),
      h("div", {class: "tools"}, h("button", {type: "submit", value: "yes", class: "main"}, act), h("button", {type: "submit", value: ""}, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, {once: true}));
  dialog.remove();
  return dialog.returnValue === "yes" ? Number(rate.value) : null;
}

async function consequences(destinations, signal) {
  const {destinations: states} = await get("/health", {}, signal);
  return h("ul", {class: "states"}, states.filter((one) => destinations.includes(one.name)).map((one) => h("li", {}, h("b", {}, one.name), " ", stateBadge(one.state),
    one.headline && h("span", {}, `${one.headline}. `), one.state !== "healthy" && h("span", {class: "soft"}, one.state === "paused" ? "They wait until it is resumed." : "They may fail again."))));
}

/**
 * Asks, then replays or deletes, and shows in `box` how it goes.
 *
 * `which` has `ids`, or a `filter`; `number` of them are at `destinations`. `done` is called when all are moved.
 */
export async function move(verb, which, number, destinations, box, done, signal) {
  const title = `${verb === "replay" ? "Replay" : "Delete"} ${letters(number)}?`;
  const body = verb === "replay" ? await consequences(destinations, signal) : h("p", {}, "They cannot be brought back.");
  const rate = await ask(title, body, verb === "replay" ? "Replay" : "Delete", verb);
  if (rate === null) return;
  const word = verb === "replay" ? "replayed" : "deleted";
  const bar = h("progress", {max: Math.max(1, number), value: 0, "aria-label": title});
  const said = h("span", {role: "status"}, "");
  const stop = new AbortController();
  const button = h("button", {type: "button", onclick: () => stop.abort()}, "Stop");
  fill(box, h("section", {class: "moving", "aria-label": title.slice(0, -1)}, bar, said, button));
  let [moved, replay] = [0, null];
  for await (const step of steps(verb, which, rate)) {
    moved += step.moved;
    replay = step.replay;
    bar.value = moved;
    said.textContent = `${count(moved)} ${word}`;
    if (stop.signal.aborted || signal.aborted) break;
  }
  button.remove();
  toast(moved ? `${letters(moved)} ${word}` : "There was nothing left to do");
  await done();
  if (replay !== null && moved) await follow(replay, moved, bar, said, signal);
}

async function* steps(verb, which, rate) {
  const size = rate ? Math.max(1, Math.ceil(rate * TURN / 1000)) : AT_ONCE;
  let replay;
  const call = async (body) => {
    const step = await post(`/dead-letters/${verb}`, {...body, ...(replay && {replay})});
    replay = step.replay ?? undefined;
    return step;
  };
  if (which.ids) {
    for (let at = 0; at < which.ids.length; at += size) {
      if (at && rate) await wait(TURN);
      yield await call({ids: which.ids.slice(at, at + size)});
    }
    return;
  }
  const filter = {...which.filter, until: Date.now() / 1000};
  for (let after = 0; after !== null;) {
    if (after && rate) await wait(TURN);
    const step = await call({filter, after, ...(rate && {limit: Math.min(200, size)})});
    after = step.next;
    yield step;
  }
}

/** Shows what became of the replayed ones until all have ended, or the page is left. */
async function follow(replay, moved, bar, said, signal) {
  bar.max = moved;
  for (;;) {
    const found = await get(`/dead-letters/replays/${replay}`, {}, signal);
    const ended = found.delivered + found.declined + found.dead;
    const parts = [[found.delivered, "delivered"], [found.declined, "declined"], [found.dead, "dead again"], [moved - ended, "waiting"]];
    bar.value = ended;
    said.textContent = `${count(moved)} replayed: ${parts.filter(([number]) => number > 0).map(([number, what]) => `${count(number)} ${what}`).join(", ")}`;
    if (ended >= moved) return;
    await wait(FOLLOWED);
    if (signal.aborted) return;
  }
}
