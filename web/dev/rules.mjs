// Limits of the rules and a back-test that takes a few seconds. What a text says is told apart by eye only.
import { readFileSync } from "node:fs";

const PACKAGED = readFileSync(
  new URL("../../server/nanwatch_server/detect/rules.toml", import.meta.url),
  "utf8",
);
const saved = new Map();
let job = null;

function parse(text) {
  const limits = {};
  let rule = "";
  text.split("\n").forEach((line, i) => {
    const table = /^\s*\[(\w+)\]/.exec(line);
    const pair = /^\s*(\w+)\s*=\s*([^#\s]+)/.exec(line);
    if (table) rule = table[1];
    else if (pair) limits[rule] = { ...limits[rule], [pair[1]]: pair[2] };
    else if (line.trim() && !line.trim().startsWith("#")) throw { line: i + 1 };
  });
  return limits;
}

const sources = [...PACKAGED.matchAll(/^(\w+)\s*=\s*([^#\n]+?)\s*(?:#\s*(.*))?$|^\[(\w+)\]/gm)];

function catalogue() {
  const rules = [];
  for (const [, name, value, source, table] of sources)
    if (table) {
      const title = table.replace("_", " ");
      rules.push({ name: table, group: "Made up", title, text: "What it looks for.", limits: [] });
    } else rules.at(-1).limits.push({ name, value, source: source ?? "" });
  return rules;
}

const shown = (project) => {
  const text = saved.get(project)?.text ?? "";
  const { at = null, by = "" } = saved.get(project) ?? {};
  return { project, text, updated_at: at, updated_by: by, limits: parse(text) };
};

export function getRules(project) {
  return {
    ...shown(project),
    below: project ? parse(saved.get("")?.text ?? "") : {},
    packaged: PACKAGED,
    rules: catalogue(),
  };
}

export function coverageOf() {
  return catalogue().map((rule, i) => ({
    rule: rule.name,
    scope: "",
    ran: i % 4 !== 0,
    records: i % 4 ? 1000 : 0,
    why: i % 4 ? "" : i % 8 ? "no kl sent" : "switched off by the limits",
  }));
}

/** Throws `{line}` where the text does not fit. */
export function checkRules(text) {
  return { limits: parse(text) };
}

export function putRules(project, text, by) {
  parse(text);
  saved.set(project, { text, at: Date.now() / 1000, by });
  return shown(project);
}

function tried(run, i, incident) {
  const said = (state, id) => ({
    state,
    id,
    title: incident?.title ?? "5 updates skipped in a row",
    severity: i % 2 ? "critical" : "warning",
    severity_before: state === "new" ? "" : "critical",
    onset_step: 300,
    fired_step: 320 + i,
    fired_before: state === "new" ? null : 330,
    rules: ["skip_streak", "grad_explosion"],
    why: state === "unknown" ? "its points were dropped by retention" : "",
  });
  const states = [["new"], [], ["same", "gone"], ["unknown"], []][i % 5];
  return {
    id: run.id,
    name: run.name,
    project: run.project,
    last_step: run.step,
    points: run.step * 8,
    dropped: 0,
    failures: [],
    fired: states.filter((one) => one === "new" || one === "same").length,
    incidents: states.map((state) => said(state, incident?.id ?? "")),
    more: 0,
  };
}

export function startBacktest(project, body, by, runs, incidents) {
  const asked = runs.filter((run) => !project || run.project === project).slice(0, body.last);
  job = { id: "b1", project, text: body.text, last: body.last, by, started_at: Date.now() / 1000 };
  Object.assign(job, {
    ended_at: null,
    state: "running",
    total: asked.length,
    share: 0,
    name: "",
    error: "",
  });
  Object.assign(job, { sentence: "", runs: [] });
  const mine = job;
  const next = () => {
    if (mine.state !== "running") return;
    const run = asked[mine.runs.length];
    if (!run) return Object.assign(mine, { state: "done", ended_at: Date.now() / 1000 });
    const incident = incidents.find((one) => one.run_id === run.id);
    mine.runs.push(tried(run, mine.runs.length, incident));
    const fired = mine.runs.reduce((sum, one) => sum + one.fired, 0);
    mine.sentence = `would have fired ${fired}× on the last ${mine.runs.length} runs`;
    mine.name = asked[mine.runs.length]?.name ?? "";
    setTimeout(next, 700);
  };
  setTimeout(next, 700);
  return job;
}

export function backtest() {
  return job;
}

export function cancelBacktest() {
  if (job?.state === "running") Object.assign(job, { state: "cancelled", ended_at: Date.now() / 1000 });
  return job;
}
