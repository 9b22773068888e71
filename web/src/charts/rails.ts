import type { Columns } from "../net/series";
import type { Span } from "./figure";

/** Non-finite values of a series as spans; neighbours of one kind are one span with their sum. */
export function nonFiniteSpans(columns: Columns): Span[] {
  const found: Span[] = [];
  const kinds = [
    ["nan", columns.nan],
    ["+inf", columns.pinf],
    ["-inf", columns.ninf],
  ] as const;
  for (const [kind, counts] of kinds) {
    let open: Span | null = null;
    for (let i = 0; i < columns.n; i++) {
      const count = counts[i]!;
      if (!(count > 0)) {
        open = null;
        continue;
      }
      if (open) {
        open.to = columns.last[i]!;
        open.count += count;
      } else {
        open = { kind, from: columns.first[i]!, to: columns.last[i]!, count };
        found.push(open);
      }
    }
  }
  return found;
}

/** Values at or below zero, which a logarithmic axis cannot place. */
export function nonPositiveSpans(columns: Columns): Span[] {
  const found: Span[] = [];
  let open: Span | null = null;
  for (let i = 0; i < columns.n; i++) {
    if (!(columns.min[i]! <= 0)) {
      open = null;
      continue;
    }
    // In a bucket only its smallest value is known to be there: at least one.
    const count = columns.max[i]! <= 0 ? Math.max(1, columns.count[i]!) : 1;
    if (open) {
      open.to = columns.last[i]!;
      open.count += count;
    } else {
      open = { kind: "nonpositive", from: columns.first[i]!, to: columns.last[i]!, count };
      found.push(open);
    }
  }
  return found;
}

/** Spans that would overlap on screen become one; counts add up, so nothing is dropped. */
export function mergeSpans(spans: Span[], position: (step: number) => number, gap: number): Span[] {
  const merged: Span[] = [];
  const last = new Map<string, Span>();
  for (const span of [...spans].sort((a, b) => a.from - b.from)) {
    const previous = last.get(span.kind);
    if (previous && position(span.from) - position(previous.to) < gap) {
      previous.to = Math.max(previous.to, span.to);
      previous.count += span.count;
      continue;
    }
    const copy = { ...span };
    last.set(span.kind, copy);
    merged.push(copy);
  }
  return merged;
}
