import type { SeriesInfo } from "../net/types";
import { formatStep } from "../ui/format";

/** Attempts that the banner about repaired numbers looks back on. */
export const REPAIRED_WINDOW = 200;

interface RepairSource {
  lastStep: number;
  seriesOf(...kinds: string[]): SeriesInfo[];
  tail(id: number, n: number): { steps: Float64Array; values: Float64Array };
}

/** Numbers each guard changed in the newest attempts, most first; guards that changed nothing are left out. */
export function repairs(source: RepairSource): { guard: string; count: number }[] {
  const since = source.lastStep - REPAIRED_WINDOW;
  const counts = new Map<string, number>();
  for (const series of source.seriesOf("repaired")) {
    const { steps, values } = source.tail(series.id, REPAIRED_WINDOW + 20);
    let count = 0;
    for (let i = 0; i < steps.length; i++) if (steps[i]! > since && values[i]! > 0) count += values[i]!;
    if (count > 0) counts.set(series.layer || "a guard", (counts.get(series.layer) ?? 0) + count);
  }
  return [...counts].map(([guard, count]) => ({ guard, count })).sort((a, b) => b.count - a.count);
}

/** "finite_rows changed 12 values, sanitize 3, in the last 200 attempts". */
export function repairWords(found: { guard: string; count: number }[]): string {
  const [first, ...others] = found;
  if (!first) return "";
  const value = first.count === 1 ? "value" : "values";
  const rest = others.map((one) => `, ${one.guard} ${formatStep(one.count)}`).join("");
  const comma = others.length ? "," : "";
  return `${first.guard} changed ${formatStep(first.count)} ${value}${rest}${comma} in the last ${REPAIRED_WINDOW} attempts`;
}
