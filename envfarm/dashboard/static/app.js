// The page: the views, the addresses that select them, and the keys.

import { diff, el, facts, long, shown, table } from "./dom.js";
import { dropToken, follow, get, hasToken, Refused, setToken, takeToken } from "./farm.js";

const LIVE = "state=running&state=pending";
const main = document.getElementById("main");
const link = (to, text, attributes = {}) => el("a", { href: `#/${to}`, ...attributes }, text);
const at = (id) => encodeURIComponent(id);
let leaving = new AbortController();
let drawnLast = "";

const say = (text) => { document.getElementById("said").textContent = shown(text); };
const kindOf = (row) => (row.kind === "scored" ? (row.reward > 0 ? "scored-1" : "scored-0") : row.kind || "dim");
const mark = (row) => el("span", { class: `mark ${kindOf(row)}` }, row.kind ? row.verdict : row.state);
const taskOf = (digest, name) => link(`task/${at(digest)}`, name || digest.replace(/^sha256:/, "").slice(0, 12));

const views = {
  "": () => episodesView("Live episodes", LIVE),
  episodes: () => episodesView("Episodes", ""),
  rollouts: rolloutsView, rollout: rolloutView, episode: episodeView, tasks: tasksView, task: taskView, use: useView, api: apiView,
};
const PARTS = [["", "Live"], ["rollouts", "Rollouts"], ["episodes", "Episodes"], ["tasks", "Tasks"], ["use", "Use"], ["api", "API"]];

// A list that is loaded page by page, with a filter for the loaded rows.
async function paged(title, columns, ask, row, empty) {
  const box = el("tbody");
  const filter = el("input", { type: "search", "aria-label": `Filter ${title}`, placeholder: "Filter ( / )", id: "filter", oninput: () => sift() });
  const shell = table(columns, []);
  shell.querySelector("tbody").replaceWith(box);
  const more = el("button", { type: "button", onclick: () => grow() }, "Show more");
  let cursor = "";
  const sift = () => { for (const tr of box.rows) tr.hidden = !tr.textContent.toLowerCase().includes(filter.value.toLowerCase()); };
  async function grow() {
    const page = await ask(cursor, leaving.signal);
    cursor = page.next;
    box.append(...table(columns, page.items.map(row)).tBodies[0].children);
    more.hidden = !cursor;
    sift();
    say(`${box.rows.length} shown`);
  }
  await grow();
  return [el("h1", {}, title), el("p", {}, filter), box.rows.length ? shell : el("p", { class: "dim" }, empty), more];
}

const episodeRow = (e) => [link(`episode/${at(e.id)}`, e.id), mark(e), e.policy, taskOf(e.task, e.task_name), e.why];
const episodeColumns = ["Episode", "Outcome", "Policy", "Task", "Why"];

async function episodesView(title, query) {
  if (query) repeat(2000);
  const ask = (cursor, signal) => get(`/v1/episodes?limit=100&cursor=${at(cursor)}&${query}`, signal);
  return paged(title, episodeColumns, ask, episodeRow, query ? "No episode is running." : "No episodes yet.");
}

async function rolloutsView() {
  const row = (r) => [link(`rollout/${at(r.id)}`, r.id), r.state, r.request.policy.name, counts(r.groups), counts(r.episodes), moment(r.created)];
  const ask = (cursor, signal) => get(`/v1/rollouts?limit=50&cursor=${at(cursor)}`, signal);
  return paged("Rollouts", ["Rollout", "State", "Policy", "Groups", "Episodes", "Created"], ask, row, "No rollouts yet.");
}

async function rolloutView(id) {
  const [rollout, page] = await Promise.all([get(`/v1/rollouts/${at(id)}`), get(`/v1/episodes?limit=500&rollout=${at(id)}`)]);
  const groups = Map.groupBy ? Map.groupBy(page.items, (e) => e.group) : grouped(page.items);
  const rows = [...groups.values()].map((members) => [
    taskOf(members[0].task, members[0].task_name),
    members[0].version ?? "not started",
    members.map((m) => link(`episode/${at(m.id)}`, m.kind ? m.verdict : m.state, { class: `member ${kindOf(m)}`, title: shown(m.why), "aria-label": `member ${m.member}: ${m.kind ? m.verdict : m.state}` })),
  ]);
  if (rollout.state === "active") {
    const signal = leaving.signal;
    let waiting = 0;
    follow(`/v1/rollouts/${at(id)}/events`, signal, (event) => {
      say(event.kind);
      clearTimeout(waiting);
      waiting = setTimeout(() => signal.aborted || render(true), 500);
    }).catch(() => signal.aborted || repeat(2000));
  }
  return [
    el("h1", {}, id),
    facts([["state", rollout.state], ["policy", rollout.request.policy.name], ["versions of", rollout.request.policy_name], ["groups", counts(rollout.groups)], ["episodes", counts(rollout.episodes)], ["created", moment(rollout.created)]]),
    el("p", {}, el("span", { class: "mark scored-1" }, "reward"), " graded · ", el("span", { class: "mark invalid" }, "invalid"), " the infrastructure failed, no reward · ", el("span", { class: "mark censored" }, "censored"), " a budget ran out"),
    table(["Task", "Version", "Members"], rows),
    page.next ? el("p", { class: "dim" }, "The first 500 episodes are shown.") : null,
  ];
}

async function episodeView(id) {
  const about = await get(`/v1/episodes/${at(id)}/explanation`);
  const told = await get(`/v1/episodes/${at(id)}/trajectory`).catch(() => null);
  if (["running", "pending"].includes(about.state)) repeat(2000);
  const spec = about.spec;
  const steps = told?.steps ?? [];
  const list = el("div");
  const more = el("button", { type: "button", onclick: () => grow() }, "Show more steps");
  let next = 0;
  function grow() {
    for (const step of steps.slice(next, next + 50)) list.append(stepView(step));
    next += 50;
    more.hidden = next >= steps.length;
  }
  grow();
  return [
    el("h1", {}, id),
    facts([["outcome", about.verdict], ["state", about.state], ["task", taskOf(spec.task, about.task_name)], ["rollout", link(`rollout/${at(spec.run_id)}`, spec.run_id)], ["policy", spec.policy.name], ["ends if idle for", spec.policy.name === "trainer" && ["running", "pending"].includes(about.state) ? `${spec.budgets.idle_s.toLocaleString()} s` : ""], ["box", told?.header.box], ["restarted", told?.header.started_because], ["failed attempts", about.attempts ? `${about.attempts}; the last: ${about.detail}` : ""]]),
    el("h2", {}, "Why"),
    about.why.length ? long(about.why.join("\n")) : el("p", { class: "dim" }, "There is no outcome yet."),
    el("h2", {}, "The agent's change"),
    told?.end?.change ? diff(told.end.change) : el("p", { class: "dim" }, told?.end ? "The agent changed nothing." : "Not finished."),
    el("h2", {}, `Steps (${steps.length})`),
    told ? el("details", {}, el("summary", {}, "Instruction"), long(told.header.instruction)) : null,
    list, more,
    ...(told?.sampled ? callsView(told.sampled) : []),
  ];
}

// What a program's calls to its model sampled: the first hundred.
function callsView(sampled) {
  const { calls } = sampled;
  const last = sampled.failures.map((f) => `${f.cause}: ${f.detail}`).join("; ");
  const failed = sampled.failed_calls ? el("p", { class: "dim" }, `Failed calls: ${sampled.failed_calls}${last && `; the last: ${last}`}`) : null;
  const shown = calls.slice(0, 100).map((call) =>
    el("section", { class: "step", "aria-label": `call ${call.index + 1}` },
      el("h3", {}, `call ${call.index + 1}  `, el("span", { class: "dim" }, `${call.parent === null ? "a new conversation" : `behind call ${call.parent + 1}`}, ended by ${call.finish_reason}${call.delivered === false ? ", not delivered" : ""}`)),
      call.text ? long(call.text) : null,
      tokensView({ ...call, prompt_ids: call.added_ids })));
  return [el("h2", {}, `Calls of the model (${calls.length})`), failed, ...shown, calls.length > 100 ? el("p", { class: "dim" }, "The first 100 calls are shown.") : null];
}

function stepView(step) {
  const { tool, ...rest } = step.action;
  const asked = tool === "bash" ? `$ ${rest.command}` : tool === "finish" ? rest.message || "done" : Object.entries(rest).map(([k, v]) => `${k}: ${v}`).join("\n");
  return el("section", { class: "step", "aria-label": `step ${step.index + 1}` },
    el("h3", {}, `${step.index + 1}. ${tool}  `, el("span", { class: "dim" }, `${step.duration_s.toFixed(2)} s`)),
    tool === "str_replace" ? diff(`${rest.path}\n${prefixed("-", rest.old)}${prefixed("+", rest.new)}`) : long(asked),
    step.observation.text ? long(step.observation.text) : null,
    step.call?.completion_ids ? tokensView(step.call) : null);
}

const prefixed = (sign, text) => text.split("\n").map((line) => `${sign} ${line}\n`).join("");

// Prompt tokens are grey, sampled ones underlined by their probability. Of the prompt there is what the call adds to the one before.
function tokensView(call) {
  const added = call.prompt_ids ?? [];
  const level = (p) => (p === undefined ? "" : p < -2 ? "p0" : p < -0.2 ? "p1" : "p2");
  const given = added.slice(-500).map((id) => el("span", { class: "token given" }, id));
  const sampled = call.completion_ids.slice(0, 2000).map((id, n) => el("span", { class: `token ${level(call.logprobs?.[n])}`, title: call.logprobs ? `log probability ${call.logprobs[n].toFixed(3)}` : undefined }, id));
  return el("details", {}, el("summary", {}, `${added.length} prompt tokens added, ${call.completion_ids.length} sampled${call.weight_version ? ` by weights ${call.weight_version}` : ""}`), el("div", {}, given, sampled));
}

async function tasksView() {
  const row = (t) => [link(`task/${at(t.digest)}`, t.name), t.state, t.language, t.licence, t.scored ? `${t.pass_rate.toFixed(2)} of ${t.scored}` : "", t.providers.join(", ")];
  const ask = (cursor, signal) => get(`/v1/tasks?cursor=${at(cursor)}`, signal);
  return paged("Tasks", ["Task", "State", "Language", "Licence", "Reward", "Valid in"], ask, row, "No valid task. Mint tasks with `envfarm build SOURCES.toml`; unchecked ones are played only by name.");
}

async function taskView(id) {
  const [task, reports] = await Promise.all([get(`/v1/tasks/${at(id)}`), get(`/v1/tasks/${at(id)}/reports`)]);
  return [
    el("h1", {}, task.name),
    facts([["state", task.state], ["digest", task.digest], ["language", task.language], ["licence", task.licence], ["source", task.source_url], ["your episodes", task.scored ? `${task.scored}, mean reward ${task.pass_rate.toFixed(2)}` : "none scored"]]),
    el("h2", {}, "Instruction"), long(task.instruction),
    ...reports.flatMap(reportView),
    reports.length ? null : el("p", { class: "dim" }, "It has not been validated."),
  ];
}

function reportView(report) {
  const evidence = (e) => (Object.keys(e).length ? el("details", {}, el("summary", {}, "evidence"), long(JSON.stringify(e, null, 1))) : "");
  const verdict = (ok, yes, no) => el("span", { class: `mark ${ok ? "ok" : "failed"}` }, ok ? yes : no);
  const cost = Object.entries(report.cost).map(([k, v]) => [k, typeof v === "number" ? v.toLocaleString() : String(v)]);
  return [
    el("h2", {}, `Validated in ${report.provider} boxes: ${report.in_words}`),
    table(["Gate", "Verdict", "Detail", "Evidence"], report.gates.map((g) => [g.gate, verdict(g.passed, "passed", "FAILED"), g.detail, evidence(g.evidence)])),
    el("details", {}, el("summary", {}, `Attacks (${report.attacks.length}), flakes (${report.flakes.length}), runs (${report.runs.length}), costs`),
      table(["Attack", "Defended", "Reward", "Reward without the defence"], report.attacks.map((a) => [a.attack, verdict(a.reward === 0, "defended", "FAILED"), a.reward ?? "", a.reward_undefended ?? ""])),
      table(["Flaky test", "State", "Counts"], report.flakes.map((f) => [f.id, f.state, counts(f.counts)])),
      table(["State", "Repeat", "Statuses", "Seconds"], report.runs.map((r) => [r.state, r.repeat, counts(r.statuses), r.seconds.toFixed(1)])),
      facts(cost)),
  ];
}

const amount = (n) => n.toLocaleString(undefined, { maximumFractionDigits: n < 10 ? 2 : 0 });
const usageTable = (lines, name, first) => table(
  [first, "Attempts", "vCPU s used", "vCPU s granted", "Idle", "GiB s granted", "GiB s at peak", "Pulled MiB"],
  lines.map((u) => [name(u), u.estimated ? `${u.attempts} (${u.estimated} estimated)` : u.attempts, amount(u.usage.cpu_used_s), amount(u.usage.cpu_granted_s),
    u.idle_share === null ? "" : `${Math.round(u.idle_share * 100)} %`, amount(u.usage.memory_granted_gib_s), amount(u.usage.memory_peak_gib_s), amount(u.usage.pulled_bytes / 2 ** 20)]));

async function useView() {
  const mine = await get("/v1/me");
  const all = mine.scopes.includes("admin") ? await get("/v1/tenants") : [await get("/v1/me/use")];
  const [total, lines] = await Promise.all(["tenant", "rollout"].map((by) => get(`/v1/usage?by=${by}&limit=1000${by === "tenant" && all.length > 1 ? "&everyone=true" : ""}`)));
  return [el("h1", {}, "Use"), el("p", {}, `Tenant ${mine.tenant}, scopes ${mine.scopes.join(", ")}. `, el("button", { type: "button", onclick: () => { dropToken(); render(); } }, "Forget the token")),
    table(["Tenant", "Episodes", "Most unfinished", "Most live"], all.map((u) => [u.tenant, counts(u.episodes) || "none", u.quota.unfinished_episodes.toLocaleString(), u.quota.live_episodes.toLocaleString()])),
    el("h2", {}, "Resources used"), total.items.length ? usageTable(total.items, (u) => u.tenant, "Tenant") : el("p", { class: "dim" }, "No episode has ended yet."),
    lines.items.length ? usageTable(lines.items, (u) => link(`rollout/${at(u.rollout)}`, u.rollout), "Your rollout") : null];
}

async function apiView() {
  const spec = await (await fetch("/openapi.json")).json();
  const calls = Object.entries(spec.paths).flatMap(([path, ways]) => Object.entries(ways).map(([way, call]) => [way.toUpperCase(), path, call]));
  const fields = (call) => (call.parameters ?? []).map((p) => [p.name, p.in, p.required ? "needed" : "", p.description ?? ""]);
  const body = (call) => call.requestBody?.content?.["application/json"]?.schema;
  return [el("h1", {}, "API"), el("p", {}, el("a", { href: "/openapi.json" }, "openapi.json"), " is the complete description."),
    ...calls.map(([way, path, call]) => el("details", {}, el("summary", {}, el("strong", {}, way), ` ${path}  `, el("span", { class: "dim" }, call.summary ?? "")),
      el("p", {}, call.description ?? ""), fields(call).length ? table(["Parameter", "In", "", "Meaning"], fields(call)) : null,
      body(call) ? long(JSON.stringify(body(call), null, 1)) : null)),
    el("h2", {}, "Shapes"),
    ...Object.entries(spec.components?.schemas ?? {}).map(([name, schema]) => el("details", {}, el("summary", {}, name), long(JSON.stringify(schema, null, 1))))];
}

function tokenView(problem) {
  const field = el("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const form = el("form", { onsubmit: (e) => { e.preventDefault(); setToken(field.value.trim()); render(); } },
    el("p", {}, el("label", { for: "token" }, "Token ")), el("p", {}, field, " ", el("button", {}, "Log in")));
  return [el("h1", {}, "Log in"), el("p", {}, "Enter a token, such as the one that `envfarm serve` prints. It is kept in this tab only."), problem ? el("p", { class: "failed", role: "alert" }, problem) : null, form];
}

const counts = (of) => Object.entries(of).map(([k, v]) => `${v.toLocaleString()} ${k}`).join(", ");
const moment = (s) => new Date(s * 1000).toLocaleString();
const repeat = (ms) => { const signal = leaving.signal; setTimeout(() => signal.aborted || document.hidden || document.querySelector("dialog[open]") || render(true), ms); };
function grouped(items) { const found = new Map(); for (const e of items) found.set(e.group, [...(found.get(e.group) ?? []), e]); return found; }

async function render(again = false) {
  leaving.abort();
  leaving = new AbortController();
  const signal = leaving.signal;
  if (!again) say("");
  const [name, id] = (location.pathname === "/docs" && !location.hash ? "api" : location.hash.replace(/^#\/?/, "")).split("/");
  const view = views[name] ?? views[""];
  const open = name === "api" || hasToken();
  document.getElementById("nav").replaceChildren(...PARTS.map(([to, text]) => link(to, text, { "aria-current": to === name ? "page" : undefined })));
  let drawn;
  try {
    drawn = open ? await view(id && decodeURIComponent(id)) : tokenView();
  } catch (e) {
    if (signal.aborted) return;
    drawn = e instanceof Refused ? tokenView(e.message) : [el("h1", {}, "Error"), el("p", { role: "alert" }, e.message)];
  }
  if (signal.aborted) return;
  drawn = drawn.filter(Boolean);
  // Unchanged content is kept, with its opened details, selection and scroll position.
  const markup = drawn.map((node) => node.outerHTML).join("");
  if (again && markup === drawnLast) return;
  drawnLast = markup;
  const opened = again ? new Set([...main.querySelectorAll("details[open] > summary")].map((s) => s.textContent)) : new Set();
  const filter = again ? document.getElementById("filter")?.value : "";
  const focused = again && document.activeElement?.id;
  main.replaceChildren(...drawn);
  for (const summary of main.querySelectorAll("details > summary")) summary.parentElement.open = opened.has(summary.textContent);
  const field = document.getElementById("filter");
  if (field && filter) { field.value = filter; field.dispatchEvent(new Event("input")); }
  if (focused) document.getElementById(focused)?.focus();
  else if (!again) main.focus({ preventScroll: true });
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · envfarm`;
}

function move(by) {
  const rows = [...main.querySelectorAll("tbody tr")].filter((tr) => !tr.hidden && tr.querySelector("a"));
  if (!rows.length) return;
  const here = rows.findIndex((tr) => tr.contains(document.activeElement));
  const next = rows[Math.min(Math.max(here + by, 0), rows.length - 1)];
  next.querySelector("a").focus();
}

document.addEventListener("keydown", (e) => {
  const typing = e.target instanceof HTMLInputElement;
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  if (e.key === "Escape" && typing) e.target.blur();
  else if (typing) return;
  else if (e.key === "Escape") history.back();
  else if (e.key === "j") move(1);
  else if (e.key === "k") move(-1);
  else if (e.key === "/") { e.preventDefault(); document.getElementById("filter")?.focus(); }
  else if (e.key === "?") document.getElementById("help").showModal();
});
document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
document.getElementById("help").addEventListener("close", () => render(true));
document.addEventListener("visibilitychange", () => document.hidden || render(true));
window.addEventListener("hashchange", () => { takeToken(); render(); });
takeToken();
render();
