// Creates elements from text only. Text of tasks and agents becomes text nodes here and is never parsed as HTML.

const SHOWN_CHARS = 20000;
// Invisible characters and marks that change the direction of text are escaped, so that no name can look like another.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export const shown = (text) => String(text).replace(HIDDEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === undefined || child === null) continue;
    made.append(child instanceof Node ? child : document.createTextNode(shown(child)));
  }
  return made;
}

// Text of any length, shown in parts on demand.
export function long(text, draw = (part) => part) {
  const box = el("pre", { tabindex: "0" });
  let at = 0;
  const more = el("button", { type: "button", onclick: () => grow() });
  function grow() {
    const part = text.slice(at, at + SHOWN_CHARS);
    at += part.length;
    box.append(...[draw(part)].flat().map((p) => (p instanceof Node ? p : document.createTextNode(shown(p)))));
    more.textContent = `Show more (${(text.length - at).toLocaleString()} characters left)`;
    more.hidden = at >= text.length;
  }
  grow();
  return el("div", {}, box, more);
}

export function diff(text) {
  return long(text, (part) =>
    part.split("\n").map((line) => {
      const kind = line.startsWith("@@") ? "hunk" : /^\+(?!\+\+)/.test(line) ? "add" : /^-(?!--)/.test(line) ? "del" : "";
      return el("span", { class: kind }, `${line}\n`);
    }),
  );
}

export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, v]) => v !== undefined && v !== "").flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)]));
}

export function table(columns, rows) {
  const cells = (row) => row.map((cell, n) => el("td", { "data-label": n ? columns[n] : undefined }, cell));
  return el("table", {},
    el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col" }, c)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells(row)))));
}
