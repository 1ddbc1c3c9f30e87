// The public API, called with a token. The token is kept for this tab only, and sent in a header, never in an address.

const KEPT = "envfarm-token";

export class Refused extends Error {}

export function takeToken() {
  const given = /^#token=(.+)$/.exec(location.hash);
  if (!given) return;
  sessionStorage.setItem(KEPT, decodeURIComponent(given[1]));
  history.replaceState(null, "", location.pathname);
}

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;
export const setToken = (token) => sessionStorage.setItem(KEPT, token);
export const dropToken = () => sessionStorage.removeItem(KEPT);
const headers = () => ({ Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` });

export async function get(path, signal) {
  const answer = await fetch(path, { headers: headers(), signal });
  const body = await answer.json();
  if (answer.status === 401) throw new Refused("The token is not known here.");
  if (!answer.ok) throw new Error(body.hint ? `${body.detail}. ${body.hint}` : body.detail);
  return body;
}

const OVER = ["done", "cancelled"];
const AGAIN_MS = 1000;
const LATEST_MS = 30000;

// A rollout's events by fetch, since EventSource cannot send headers. An interrupted stream continues after the last event.
// Ends with the rollout or the signal; throws if the farm refuses the stream.
export async function follow(path, signal, heard) {
  let last = "";
  let over = false;
  const hear = (event) => { last = event.number; over = OVER.includes(event.kind); heard(event); };
  for (let wait = AGAIN_MS; !over; wait = Math.min(2 * wait, LATEST_MS)) {
    const before = last;
    await listen(path, last, signal, hear).catch((e) => { if (signal.aborted || e instanceof NoStream) throw e; });
    if (over) return;
    if (last !== before) wait = AGAIN_MS;
    await new Promise((go) => setTimeout(go, wait));
    signal.throwIfAborted();
  }
}

class NoStream extends Error {}

async function listen(path, last, signal, heard) {
  const answer = await fetch(path, { headers: { ...headers(), ...(last ? { "Last-Event-ID": last } : {}) }, signal });
  if (answer.status >= 400 && answer.status < 500) throw new NoStream(answer.statusText);
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) heard(JSON.parse(data.slice(6)));
    }
  }
}
