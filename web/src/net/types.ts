/** The shapes of docs/protocol.md. Metric values are text or live in binary blocks, never JSON numbers. */

export type Role = "ingest" | "view" | "respond" | "control" | "admin";
export type Severity = "notice" | "warning" | "critical";
export type RunStatus = "live" | "stalled" | "lost" | "ended";

export interface Session {
  actor: string;
  role: Role;
  version: string;
}

export interface IncidentBrief {
  id: string;
  title: string;
  severity: Severity;
  state: IncidentState;
  onset_step: number;
  syndrome: string;
}

export interface RunSummary {
  id: string;
  project: string;
  name: string;
  status: RunStatus;
  created_at: number;
  started_at: number;
  last_seen_at: number;
  last_step: number;
  ended_at: number | null;
  end_reason: string;
  exit_code: number | null;
  severity: Severity | null;
  incident: IncidentBrief | null;
  controls: string[];
}

export interface ControlOffer {
  lr?: [string, string] | null;
  lr_factor?: [string, string] | null;
  checkpoint?: boolean;
  stop?: boolean;
  tracing?: boolean;
  /** Processes of the training. */
  world?: number;
  granted_by?: string;
}

export interface SeriesInfo {
  id: number;
  rank: number;
  stage: string;
  scope: string;
  kind: string;
  layer: string;
}

export interface Beat {
  queued?: number;
  dropped?: Record<string, number>;
  overhead?: string;
}

/** What the run measures and how often, or why not. */
export interface Coverage {
  step: number;
  at: number;
  what: Record<string, string>;
}

export interface RankInfo {
  rank: number;
  host: string;
  state: "connected" | "lost" | "ended" | "missing";
  last_seen_at: number;
  last_step: number;
  /** Attempts behind rank 0. */
  lag: number;
  bad_step: number | null;
  bad_where: string;
  first_bad: boolean;
}

export interface RunDetail extends RunSummary {
  config: Record<string, string>;
  facts: Record<string, string>;
  control: ControlOffer | null;
  series: SeriesInfo[];
  beat: Beat | null;
  main_scope: string;
  coverage: Coverage | null;
  /** Empty for a training of one process. */
  ranks: RankInfo[];
}

export type IncidentState = "firing" | "acknowledged" | "snoozed" | "resolved";

export interface Suggestion {
  text: string;
  treats: "cause" | "symptom";
  command: string;
  args: CommandArgs;
  copy: string;
}

export interface Evidence {
  label: string;
  value: string;
  limit: string;
  kind: string;
  scope: string;
  layer: string;
}

export interface FindingRow {
  rule: string;
  severity: Severity;
  step: number;
  onset_step: number;
  time: number;
  title: string;
  message: string;
  scope: string;
  kind: string;
  layer: string;
}

export interface Incident {
  id: string;
  run_id: string;
  run_name: string;
  state: IncidentState;
  severity: Severity;
  syndrome: string;
  title: string;
  what: string;
  why: string;
  confidence: number;
  onset_step: number;
  fired_step: number;
  last_step: number;
  opened_at: number;
  updated_at: number;
  resolved_step: number | null;
  resolved_at: number | null;
  acknowledged_by: string;
  snoozed_until: number | null;
  count: number;
  reopened: number;
  forecast: string;
  evidence_for: string[];
  evidence_against: string[];
  evidence: Evidence[];
  findings: FindingRow[];
  forensics: Forensics[];
  suggestions: Suggestion[];
}

export interface CommandArgs {
  lr?: number;
  factor?: number;
  scope?: string;
  checkpoint?: boolean;
  steps?: number;
}

export interface Command {
  id: string;
  run_id: string;
  kind: string;
  args: CommandArgs;
  state: string;
  actor: string;
  role: string;
  reason: string;
  incident_id: string;
  created_at: number;
  expires_at: number;
  applied_step: number | null;
  before: Record<string, string>;
  after: Record<string, string>;
  factor: string | null;
  message: string;
  transitions: { state: string; at: number; detail: string }[];
}

export interface Checkpoint {
  step: number;
  at: number;
  path: string;
  bytes: number;
  sha256: string;
  grade: "healthy" | "unverified" | "suspect" | "bad";
  command_id: string;
}

export interface Mark {
  what: string;
  step: number;
  at: number;
  text: string;
  data: Record<string, string>;
}

/** The first non-finite value of an episode. */
export interface NonFinite {
  rank: number;
  at: number;
  step: number;
  where: "loss" | "gradient" | "parameter" | "buffer" | "moment" | "watched" | "logged";
  scope: string;
  nan: number;
  inf: number;
  total: number;
  layers: string[];
}

/** Where a non-finite value came from. */
export interface Forensics {
  rank: number;
  at: number;
  step: number;
  trigger: "loss" | "gradient" | "parameter" | "skips" | "command" | "exception";
  scope: string;
  verdict: "layer" | "all_at_once" | "loss" | "not_found";
  cause: "nan" | "overflow" | "unknown";
  first_forward: string;
  first_backward: string;
  producers: string[];
  propagators: string[];
  text: string;
  recorder_path: string;
  checkpoint_path: string;
  facts: Record<string, string>;
  tracing_steps: number;
}

/** An internal error of the SDK; `count` of its kind so far. */
export interface Problem {
  rank: number;
  at: number;
  kind: string;
  count: number;
  text: string;
}

export interface RunEvents {
  marks: Mark[];
  checkpoints: Checkpoint[];
  nonfinite: NonFinite[];
  forensics: Forensics[];
  problems: Problem[];
}

export interface AuditRow {
  id: number | string;
  at: number;
  actor: string;
  role: string;
  via: string;
  action: string;
  run_id: string;
  target: string;
  detail: Record<string, unknown>;
  hash: string;
}

/** A place that messages go to; its address stays on the server. */
export interface NotifyChannel {
  id: string;
  name: string;
  service: string;
  shown: string;
  enabled: boolean;
  signed: boolean;
  created_at: number;
}

export interface QuietHours {
  /** `HH:MM` by the clock of `zone`. */
  start: string;
  end: string;
  zone: string;
  critical_passes: boolean;
}

export type NotifySeverity = "warning" | "critical";

/** Which incidents go to a channel. */
export interface NotifyRoute {
  id: string;
  channel_id: string;
  /** Empty: every project. */
  project: string;
  min_severity: NotifySeverity;
  resolved: boolean;
  quiet: QuietHours | null;
  enabled: boolean;
  created_at: number;
}

export interface NotifyOverview {
  channels: NotifyChannel[];
  routes: NotifyRoute[];
  allow_local: boolean;
}

/** One thing that was or will be said to one channel. */
export interface Delivery {
  n: number;
  key: string;
  channel_id: string;
  channel: string;
  run_id: string;
  run_name: string;
  incident_id: string;
  title: string;
  what: "firing" | "resolved";
  severity: Severity;
  state: "waiting" | "sent" | "merged" | "skipped" | "failed";
  tries: number;
  created_at: number;
  due_at: number;
  done_at: number | null;
  detail: string;
}

/** Who may do what: the roles form a ladder, `ingest` stands beside it. */
export function roleCovers(held: Role | undefined, needed: Role): boolean {
  const ladder: Role[] = ["view", "respond", "control", "admin"];
  return held !== undefined && ladder.indexOf(held) >= ladder.indexOf(needed) && ladder.includes(held);
}
