/** Shapes of the routes of rules. Values of limits are text as TOML writes it. */

/** Rule → limit → value. */
export type Limits = Record<string, Record<string, string>>;

export interface RuleLimit {
  name: string;
  /** The packaged value. */
  value: string;
  /** Where the number comes from. */
  source: string;
}

export interface Rule {
  name: string;
  group: string;
  title: string;
  text: string;
  limits: RuleLimit[];
}

export interface SavedRules {
  /** Empty: every project. */
  project: string;
  text: string;
  updated_at: number | null;
  updated_by: string;
  limits: Limits;
}

export interface RulesAnswer extends SavedRules {
  /** What counts in every project, below what this one says. */
  below: Limits;
  packaged: string;
  rules: Rule[];
}

export interface ProjectRow {
  project: string;
  runs: number;
  last_seen_at: number | null;
  own_rules: boolean;
}

export interface TriedIncident {
  state: "same" | "new" | "gone" | "unknown";
  /** Of the incident that the run has; empty for a new one. */
  id: string;
  title: string;
  severity: "notice" | "warning" | "critical";
  severity_before: string;
  onset_step: number;
  fired_step: number;
  fired_before: number | null;
  rules: string[];
  /** Why it cannot be told. */
  why: string;
}

export interface TriedRun {
  id: string;
  name: string;
  project: string;
  last_step: number;
  points: number;
  /** Points that retention has taken. */
  dropped: number;
  failures: string[];
  fired: number;
  incidents: TriedIncident[];
  /** Incidents that are not listed. */
  more: number;
}

export interface Backtest {
  id: string;
  project: string;
  text: string;
  last: number;
  by: string;
  started_at: number;
  ended_at: number | null;
  state: "running" | "done" | "cancelled" | "failed";
  total: number | null;
  /** Of the run at hand. */
  share: number;
  name: string;
  error: string;
  sentence: string;
  runs: TriedRun[];
}

/** What a rule did in a scope of a run. */
export interface RuleCoverage {
  rule: string;
  scope: string;
  ran: boolean;
  records: number;
  why: string;
}
