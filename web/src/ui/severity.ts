import type { IncidentBrief, RunSummary, Severity } from "../net/types";

/** Severity is shape and word and fill, never colour alone. */
export const SEVERITY: Record<Severity, { shape: string; word: string; rank: number }> = {
  critical: { shape: "⬢", word: "Critical", rank: 3 },
  warning: { shape: "▲", word: "Caution", rank: 2 },
  notice: { shape: "●", word: "Advisory", rank: 1 },
};

export function severityRank(severity: Severity | null | undefined): number {
  return severity ? SEVERITY[severity].rank : 0;
}

/** Snoozed until later or until worse, or already seen: no longer asks for attention. */
export function needsAttention(incident: Pick<IncidentBrief, "state"> | null): boolean {
  return incident?.state === "firing";
}

/** Runs people should look at: an incident, or silence that nobody has explained. */
export function isSick(run: RunSummary): boolean {
  if (run.status === "ended") return false;
  return severityRank(run.severity) >= 1 || run.status === "lost" || run.status === "stalled";
}

/** Severity first, then silence, then name and id: the order never depends on when data came. */
export function compareRuns(a: RunSummary, b: RunSummary): number {
  return (
    severityRank(b.severity) - severityRank(a.severity) ||
    silence(b) - silence(a) ||
    (a.name < b.name ? -1 : a.name > b.name ? 1 : 0) ||
    (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  );
}

function silence(run: RunSummary): number {
  return run.status === "lost" ? 2 : run.status === "stalled" ? 1 : 0;
}
