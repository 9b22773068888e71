import type { Delivery, NotifyRoute, NotifySeverity, QuietHours } from "../../net/types";
import { formatClock } from "../../ui/format";

/** `22:00 to 07:00 Europe/Berlin, critical passes`. */
export function quietWords(quiet: QuietHours): string {
  const passes = quiet.critical_passes ? ", critical passes" : ", critical too";
  return `quiet ${quiet.start} to ${quiet.end} ${quiet.zone}${passes}`;
}

export const SEVERITY_WORDS: Record<NotifySeverity, string> = {
  warning: "caution and critical",
  critical: "critical only",
};

export function routeWords(route: NotifyRoute): string {
  const words = [
    route.project ? `project ${route.project}` : "every project",
    SEVERITY_WORDS[route.min_severity],
    route.resolved ? "also when it is over" : "",
    route.quiet ? quietWords(route.quiet) : "",
    route.enabled ? "" : "off",
  ];
  const text = words.filter(Boolean).join(" · ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const STATES: Record<Delivery["state"], [mark: string, word: string]> = {
  sent: ["✓", "sent"],
  waiting: ["◌", "waiting"],
  merged: ["✓", "sent along"],
  skipped: ["–", "not sent"],
  failed: ["✗", "failed"],
};

/** `✓ sent 14:02:11`, `◌ waiting, tried 3 times, again 14:05:00: it answered 500`. */
export function outcomeWords(row: Delivery, at: number): string {
  const [mark, word] = STATES[row.state];
  const parts = [`${mark} ${word}`];
  if (row.state === "sent" && row.done_at !== null) parts[0] += ` ${formatClock(row.done_at)}`;
  if (row.tries > 1 || (row.tries === 1 && row.state !== "sent"))
    parts.push(row.tries === 1 ? "tried once" : `tried ${row.tries} times`);
  if (row.state === "waiting" && row.due_at > at) parts.push(`next ${formatClock(row.due_at)}`);
  // Keys are for programs.
  const why = row.state === "merged" ? "in the message of another incident" : row.detail;
  return parts.join(", ") + (why && row.state !== "sent" ? `: ${why}` : "");
}
