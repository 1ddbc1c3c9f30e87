// The public API, as the holder of a token. The token is kept for this tab alone, and goes out in a header, never in an address.

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

// Server-sent events by fetch, since EventSource cannot send a header. Ends with the stream or the signal.
export async function follow(path, signal, heard) {
  const answer = await fetch(path, { headers: headers(), signal });
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
