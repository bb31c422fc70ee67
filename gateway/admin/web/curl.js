// A request as a command for a terminal.

import {toast} from "./dom.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Returns the command that sends `body` to the endpoint `path` of a source, as the playground lists it. */
export function curl({url, example}, path = example.path, body = example.body) {
  const [method, place] = path.split(" ");
  return [`curl -i -X ${method} ${quoted(url + place)}`, ...Object.entries(example.headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`), `-d ${quoted(body)}`].join(" \\\n  ");
}

export async function copy(text, said) {
  await navigator.clipboard.writeText(text);
  toast(said);
}
