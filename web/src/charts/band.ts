import type { Columns } from "../net/series";

/** Outline of the band between smallest and largest value: one closed polygon for each stretch without a gap. */
export function bandOutline(
  columns: Columns,
  place: (step: number) => number,
  keep: (value: number) => boolean,
): { x: Float64Array; y: Float64Array } {
  const xs: number[] = [];
  const ys: number[] = [];
  let start = -1;
  const close = (end: number) => {
    // A stretch of one has no area: it is drawn as a marker by the line.
    if (start >= 0 && end - start >= 2) {
      if (xs.length) {
        xs.push(Number.NaN);
        ys.push(Number.NaN);
      }
      for (let i = start; i < end; i++) {
        xs.push(place(middle(columns, i)));
        ys.push(columns.max[i]!);
      }
      for (let i = end - 1; i >= start; i--) {
        xs.push(place(middle(columns, i)));
        ys.push(columns.min[i]!);
      }
    }
    start = -1;
  };
  for (let i = 0; i < columns.n; i++) {
    const inside = keep(columns.min[i]!) && keep(columns.max[i]!);
    if (inside && start < 0) start = i;
    if (!inside) close(i);
  }
  close(columns.n);
  return { x: Float64Array.from(xs), y: Float64Array.from(ys) };
}

/** Step at which a row is drawn. */
export function middle(columns: Columns, i: number): number {
  return (columns.first[i]! + columns.last[i]!) / 2;
}

/** Indices of finite values whose neighbours are both gaps: a line alone would not show them. */
export function lonely(y: Float64Array): number[] {
  const found: number[] = [];
  for (let i = 0; i < y.length; i++) {
    if (!Number.isFinite(y[i]!)) continue;
    const before = i > 0 && Number.isFinite(y[i - 1]!);
    const after = i < y.length - 1 && Number.isFinite(y[i + 1]!);
    if (!before && !after) found.push(i);
  }
  return found;
}
