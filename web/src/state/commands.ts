import { ApiError, errorText, postJson, randomKey } from "../net/api";
import type { Command, CommandArgs, RunDetail } from "../net/types";
import { parseMetric } from "../ui/format";

/** Something a person is about to ask of a run; nothing is sent before it is confirmed. */
export interface Draft {
  kind: string;
  args: CommandArgs;
  /** One key for one click: sending twice makes one command. */
  key: string;
  incidentId: string;
  label: string;
}

/** Attempts that one press traces. */
export const TRACING_ATTEMPTS = 50;

export function draft(kind: string, args: CommandArgs, label: string, incidentId = ""): Draft {
  return { kind, args: numeric(args), key: randomKey(), incidentId, label };
}

/** Learning rates and factors may come as text, like every metric value; the API takes strict numbers. */
function numeric(args: CommandArgs): CommandArgs {
  const copy: CommandArgs = { ...args };
  for (const name of ["lr", "factor"] as const) {
    const value: unknown = copy[name];
    if (typeof value === "string") copy[name] = parseMetric(value) ?? Number.NaN;
  }
  return copy;
}

/** Verb, object and value: what a confirm button says. */
export function draftLabel(kind: string, args: CommandArgs, runName: string): string {
  const scope = args.scope ? ` of ${args.scope}` : "";
  switch (kind) {
    case "scale_lr":
      return `${Number(args.factor) > 1 ? "Raise" : "Lower"} LR${scope} to ×${args.factor}`;
    case "set_lr":
      return `Set LR${scope} to ${args.lr}`;
    case "checkpoint":
      return "Save checkpoint";
    case "stop":
      return `Stop ${runName}`;
    case "arm_tracing":
      return `Trace ${args.steps ?? TRACING_ATTEMPTS} attempts`;
    default:
      return kind;
  }
}

export const TERMINAL = new Set(["verified", "rejected", "expired", "cancelled", "superseded", "failed"]);

/** Learning rates in force and what the draft would make of them, for each scope it touches. */
export function lrChange(
  lrs: Map<string, number>,
  args: CommandArgs,
): { scope: string; before: number; after: number }[] {
  const touched = [...lrs].filter(([scope]) => !args.scope || scope.split("#")[0] === args.scope);
  return touched.map(([scope, before]) => {
    if (args.factor !== undefined) return { scope, before, after: before * args.factor };
    // Parameter groups keep their ratio to the first one of their scope.
    const first = lrs.get(scope.split("#")[0]!) ?? before;
    const after = args.lr === undefined ? before : first > 0 ? before * (args.lr / first) : args.lr;
    return { scope, before, after };
  });
}

/** Stopping and raising ask for the run's name and a reason, and for the role `control`. */
export function isGrave(change: Draft, lrs: Map<string, number>): boolean {
  if (change.kind === "stop") return true;
  if (change.kind === "scale_lr") return (change.args.factor ?? 1) > 1;
  if (change.kind === "set_lr")
    return !lrs.size || lrChange(lrs, change.args).some((one) => one.after > one.before);
  return false;
}

/** Why the run's own bounds forbid it, or an empty text. The run checks again; this only saves a round trip. */
export function boundsRefusal(detail: RunDetail, change: Draft, lrs: Map<string, number>): string {
  const bounds = detail.control?.lr;
  if (!bounds || !change.kind.endsWith("lr")) return "";
  const [low, high] = bounds.map((text) => parseMetric(String(text)) ?? Number.NaN) as [number, number];
  const out = lrChange(lrs, change.args).find(
    (one) => one.after < low * (1 - 1e-9) || one.after > high * (1 + 1e-9),
  );
  return out ? `The run allows learning rates from ${bounds[0]} to ${bounds[1]}.` : "";
}

export async function send(run: string, change: Draft, reason: string): Promise<Command> {
  const body: Record<string, unknown> = { kind: change.kind, args: change.args };
  if (reason) body.reason = reason;
  if (change.incidentId) body.incident_id = change.incidentId;
  return postJson<Command>(`/api/runs/${encodeURIComponent(run)}/commands`, body, {
    "Idempotency-Key": change.key,
  });
}

export async function cancel(id: string): Promise<Command> {
  return postJson<Command>(`/api/commands/${encodeURIComponent(id)}/cancel`, {});
}

export function refusalText(error: unknown): string {
  if (error instanceof ApiError && error.status === 409) return `${error.message} Nothing was changed.`;
  return errorText(error);
}

/** The change in words, from what the run reported only. */
export function commandWords(command: Command): string {
  const scope = command.args.scope ? ` of ${command.args.scope}` : "";
  switch (command.kind) {
    case "scale_lr":
      return `LR${scope} ×${command.args.factor ?? "?"}`;
    case "set_lr":
      return `LR${scope} to ${command.args.lr ?? "?"}`;
    case "checkpoint":
      return "Save checkpoint";
    case "stop":
      return "Stop";
    case "arm_tracing":
      return `Trace ${command.args.steps ?? TRACING_ATTEMPTS} attempts`;
    default:
      return command.kind;
  }
}

export function stateWords(command: Command): string {
  switch (command.state) {
    case "applied":
    case "verified": {
      const at = command.applied_step === null ? "applied" : `applied at step ${command.applied_step}`;
      return command.state === "verified" ? `${at}, verified` : at;
    }
    case "expired":
      return "expired: it will not be applied later";
    case "unknown":
      return "unknown: the run has not said what became of it";
    default:
      return command.state;
  }
}
