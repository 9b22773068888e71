import type { Incident } from "../net/types";
import { SEVERITY, severityRank } from "../ui/severity";

export type DesktopChoice = "off" | "warning" | "critical";

/** Incidents opened longer ago than this before the page was opened are no news. */
const FRESH_S = 30;
const KNOWN_MAX = 500;

/** What a browser has been told of an incident: to tell it again only if it is worse, or back. */
export class Told {
  private readonly known = new Map<string, { rank: number; reopened: number }>();

  /** True if somebody should be told now; `since` is when the page was opened (server seconds). */
  isNews(incident: Incident, choice: DesktopChoice, since: number): boolean {
    if (incident.state !== "firing" && incident.state !== "resolved") return false;
    const before = this.known.get(incident.id);
    const rank = severityRank(incident.severity);
    this.known.set(incident.id, { rank, reopened: incident.reopened });
    if (this.known.size > KNOWN_MAX) this.known.delete(this.known.keys().next().value!);
    if (choice === "off" || incident.state !== "firing" || rank < severityRank(choice)) return false;
    if (!before) return incident.opened_at >= since - FRESH_S;
    return rank > before.rank || incident.reopened > before.reopened;
  }
}

export interface DesktopText {
  title: string;
  body: string;
}

/** The same words as in the other channels, shorter. */
export function desktopText(incident: Incident): DesktopText {
  const [first] = incident.suggestions;
  const lines = [incident.what, incident.forecast, first ? `Try: ${first.text}` : ""];
  const word = SEVERITY[incident.severity].word;
  return {
    title: `${word}: ${incident.title} · ${incident.run_name}`,
    body: lines.filter(Boolean).join("\n"),
  };
}
