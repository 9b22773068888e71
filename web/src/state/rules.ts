import { batch, computed, signal } from "@preact/signals";
import { ApiError, errorText, getJson, postJson, putJson } from "../net/api";
import type { Limits, ProjectRow, Rule, RulesAnswer, SavedRules } from "../net/rules";
import { withLimit } from "./toml";

/**
 * Limits of one project on the page: what is saved and what a person has typed. Drafts stay here when one looks
 * at another page, so that nothing is lost by following a link; leaving the site asks.
 */
const CHECK_MS = 300;

export interface Wrong {
  /** Counts from 1; 0 for the whole text. */
  line: number;
  message: string;
}

interface Draft {
  text: string;
  /** What it says; of a text that does not fit, what it said before. */
  limits: Limits;
  wrong: Wrong | null;
}

export const projects = signal<ProjectRow[]>([]);
export const answers = signal<Map<string, RulesAnswer>>(new Map());
export const drafts = signal<Map<string, Draft>>(new Map());
export const rulesFailure = signal("");

export const unsaved = computed(() =>
  [...drafts.value].filter(([project, draft]) => draft.text !== answers.value.get(project)?.text),
);

/** Closing or reloading the site asks while something is not saved. */
export function guardUnsaved(): void {
  window.addEventListener("beforeunload", (event) => {
    if (unsaved.peek().length) event.preventDefault();
  });
}

export function textOf(project: string): string {
  return drafts.value.get(project)?.text ?? answers.value.get(project)?.text ?? "";
}

/** What the text at hand says. */
export function limitsOf(project: string): Limits {
  return drafts.value.get(project)?.limits ?? answers.value.get(project)?.limits ?? {};
}

export function wrongOf(project: string): Wrong | null {
  return drafts.value.get(project)?.wrong ?? null;
}

export function isUnsaved(project: string): boolean {
  return unsaved.value.some(([name]) => name === project);
}

const query = (project: string) => `project=${encodeURIComponent(project)}`;

export async function loadProjects(): Promise<void> {
  try {
    projects.value = (await getJson<{ projects: ProjectRow[] }>("/api/projects")).projects;
  } catch {
    // The connection banner says why there is only one to choose.
  }
}

export async function loadRules(project: string): Promise<void> {
  try {
    const answer = await getJson<RulesAnswer>(`/api/rules?${query(project)}`);
    answers.value = new Map(answers.value).set(project, answer);
    rulesFailure.value = "";
  } catch (error) {
    rulesFailure.value = errorText(error);
  }
}

function keep(project: string, draft: Draft | null): void {
  const next = new Map(drafts.value);
  if (draft) next.set(project, draft);
  else next.delete(project);
  drafts.value = next;
}

const timers = new Map<string, ReturnType<typeof setTimeout>>();

/** Another text; the server says soon whether it fits. */
export function type(project: string, text: string): void {
  keep(project, { text, limits: limitsOf(project), wrong: wrongOf(project) });
  clearTimeout(timers.get(project));
  timers.set(
    project,
    setTimeout(() => void check(project), CHECK_MS),
  );
}

/** One limit; `null`: what counts without this project. */
export function setLimit(project: string, rule: string, limit: string, value: string | null): void {
  const limits = structuredClone(limitsOf(project));
  if (value === null) delete limits[rule]?.[limit];
  else limits[rule] = { ...limits[rule], [limit]: value };
  keep(project, { text: withLimit(textOf(project), rule, limit, value), limits, wrong: null });
  void check(project);
}

export function discard(project: string): void {
  clearTimeout(timers.get(project));
  keep(project, null);
}

export function wrongFrom(error: unknown): Wrong | null {
  if (!(error instanceof ApiError) || error.status !== 422) return null;
  return { line: error.line, message: error.message };
}

export async function check(project: string): Promise<void> {
  clearTimeout(timers.get(project));
  const text = textOf(project);
  const settle = (change: Partial<Draft>) => {
    const draft = drafts.peek().get(project);
    if (draft?.text === text) keep(project, { ...draft, ...change });
  };
  try {
    const { limits } = await postJson<{ limits: Limits }>("/api/rules/check", { text });
    settle({ limits, wrong: null });
  } catch (error) {
    const wrong = wrongFrom(error);
    // Without a connection nothing is known of the text; saving says so.
    if (wrong) settle({ wrong });
  }
}

/** Throws what the server refuses; a text that does not fit is marked at its line first. */
export async function save(project: string): Promise<void> {
  clearTimeout(timers.get(project));
  const text = textOf(project);
  const since = answers.peek().get(project)?.updated_at ?? 0;
  try {
    const saved = await putJson<SavedRules>(`/api/rules?${query(project)}`, { text, since });
    batch(() => {
      answers.value = new Map(answers.value).set(project, { ...answers.value.get(project)!, ...saved });
      if (drafts.peek().get(project)?.text === text) keep(project, null);
    });
    void loadProjects();
  } catch (error) {
    const wrong = wrongFrom(error);
    const draft = drafts.peek().get(project);
    if (wrong && draft) keep(project, { ...draft, wrong });
    throw error;
  }
}

/** Value that counts for a limit, and who says so. */
export interface Effective {
  value: string;
  from: "packaged" | "every" | "project";
}

export function effective(rule: Rule, limit: string, below: Limits, own: Limits, project: string): Effective {
  const said = own[rule.name]?.[limit];
  if (said !== undefined) return { value: said, from: project ? "project" : "every" };
  const under = below[rule.name]?.[limit];
  if (under !== undefined) return { value: under, from: "every" };
  const packaged = limit === ENABLED ? "true" : rule.limits.find((one) => one.name === limit)?.value;
  return { value: packaged ?? "", from: "packaged" };
}

export const ENABLED = "enabled";

/** Switch a rule; where that is what counts anyway, nothing is written. */
export function switchRule(project: string, rule: Rule, below: Limits, on: boolean): void {
  const without = effective(rule, ENABLED, below, {}, project).value === "true";
  setLimit(project, rule.name, ENABLED, without === on ? null : String(on));
}
