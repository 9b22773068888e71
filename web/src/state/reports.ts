import { signal } from "@preact/signals";
import type { Forensics, NonFinite, Problem, RunEvents } from "../net/types";

/** What the run reported besides its points: forensics, non-finite values, problems of the SDK. */
export class Reports {
  readonly forensics = signal<Forensics[]>([]);
  readonly nonfinite = signal<NonFinite[]>([]);
  readonly problems = signal<Problem[]>([]);

  set(events: RunEvents): void {
    this.forensics.value = events.forensics;
    this.nonfinite.value = events.nonfinite;
    this.problems.value = events.problems;
  }

  /** The header of a live `event` frame. */
  take(header: Record<string, unknown>): void {
    if (header.forensics) this.forensics.value = [...this.forensics.peek(), header.forensics as Forensics];
    if (header.nonfinite) this.nonfinite.value = [...this.nonfinite.peek(), header.nonfinite as NonFinite];
    if (header.problem) this.problems.value = [...this.problems.peek(), header.problem as Problem];
  }
}

/** The newest word on each kind of problem of each rank, the most frequent first. */
export function problemsNow(problems: Problem[]): Problem[] {
  const newest = new Map<string, Problem>();
  for (const one of problems) {
    const key = `${one.rank} ${one.kind}`;
    const known = newest.get(key);
    if (!known || one.count >= known.count || one.at > known.at) newest.set(key, one);
  }
  return [...newest.values()].sort((a, b) => b.count - a.count);
}
