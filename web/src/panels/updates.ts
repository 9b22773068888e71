import type { Figure, Trace } from "../charts/figure";
import { visible } from "../charts/lines";
import type { Columns } from "../net/series";
import { exportNumber, formatShare, formatStep } from "../ui/format";
import { type NamedSeries, named, type Panel } from "./panel";

interface Data {
  applied: NamedSeries[];
  reasons: NamedSeries[];
  norms: NamedSeries[];
}

/** Shares of the attempts in one cell; they add up to one. */
export interface Cell {
  from: number;
  to: number;
  total: number;
  applied: number;
  scaler: number;
  script: number;
  guard: number;
  nonfinite: number;
}

const CELLS = 150;

/** What became of each attempt: weights changed, or skipped and by whom, or gradients were not finite. */
export const updates: Panel<Data> = {
  id: "updates",
  title: "Updates",
  unit: "share of attempts",
  testId: "chart-updates",
  kinds: ["update_applied", "skip_reason"],
  log: false,
  mayLog: false,
  height: 260,
  select: (source) => {
    const applied = named(source, "update_applied");
    return applied.length
      ? { applied, reasons: named(source, "skip_reason"), norms: named(source, "grad_norm") }
      : null;
  },
  draw: (data, context) => {
    const cells = updateCells(data, context.from, context.to);
    const { series, applied, text } = context.colors;
    const guarded = cells.some((cell) => cell.guard > 0);
    const x = Float64Array.from(cells, (cell) => context.place(cell.from));
    const layer = (
      name: "applied" | "scaler" | "script" | "guard" | "nonfinite",
      color: string,
      pattern: "" | "/" | "x" | ".",
    ) =>
      ({
        type: "stack",
        x,
        y: Float64Array.from(cells, (cell) => cell[name]),
        color,
        pattern,
      }) satisfies Trace;
    const figure: Figure = {
      traces: [
        layer("applied", applied, ""),
        layer("scaler", series[0]!, "/"),
        layer("script", series[4]!, "."),
        layer("guard", series[2]!, "/"),
        layer("nonfinite", text, "x"),
      ],
      y: { log: false, range: [0, 1], ticks: [0, 0.5, 1].map((at) => ({ at, text: formatShare(at) })) },
      spans: [],
      above: null,
      below: null,
      levels: [],
      verticals: [],
      readings: (step) => {
        const cell = step === null ? cells.at(-1) : cells.find((one) => step >= one.from && step <= one.to);
        if (!cell) return [];
        return [
          { label: "applied", color: applied, text: formatShare(cell.applied) },
          { label: "skipped by scaler", color: series[0]!, text: formatShare(cell.scaler) },
          { label: "skipped by script", color: series[4]!, text: formatShare(cell.script) },
          ...(guarded
            ? [{ label: "held by nanwatch", color: series[2]!, text: formatShare(cell.guard) }]
            : []),
          { label: "non-finite", color: text, text: formatShare(cell.nonfinite) },
        ];
      },
      summary: summary(cells),
      table: () => table(cells, formatShare),
      exportTable: () => table(cells, exportNumber),
    };
    return figure;
  },
  missing: "This run does not report whether its updates were applied.",
};

function table(cells: Cell[], number: (v: number) => string) {
  return {
    columns: [
      "steps",
      "attempts",
      "applied",
      "skipped by scaler",
      "skipped by script",
      "held by nanwatch",
      "non-finite",
    ],
    rows: cells.map((cell) => [
      `${Math.ceil(cell.from)}–${Math.floor(cell.to)}`,
      String(cell.total),
      number(cell.applied),
      number(cell.scaler),
      number(cell.script),
      number(cell.guard),
      number(cell.nonfinite),
    ]),
  };
}

function summary(cells: Cell[]): string {
  const total = cells.reduce((sum, cell) => sum + cell.total, 0);
  if (!total) return "Updates: no data in view.";
  const applied = cells.reduce((sum, cell) => sum + cell.applied * cell.total, 0) / total;
  return `Updates: ${formatShare(applied)} of ${formatStep(total)} attempts in view changed the weights.`;
}

export function updateCells(data: Data, from: number, to: number): Cell[] {
  if (!(to > from)) return [];
  // Fewer steps than cells: one cell for each step, so that no cell is empty by arithmetic.
  const count = Math.max(1, Math.min(CELLS, Math.floor(to - from) + 1));
  const width = (to - from) / count;
  const cells = Array.from({ length: count }, (_, i) => emptyCell(from + i * width, from + (i + 1) * width));
  for (const series of data.applied) {
    const applied = visible(series.columns, from, to);
    const reason = data.reasons.find((one) => one.scope === series.scope)?.columns;
    const norm = data.norms.find((one) => one.scope === series.scope)?.columns;
    for (let i = 0; i < applied.n; i++) {
      const cell = cells[Math.min(count - 1, Math.floor((applied.first[i]! - from) / width))];
      if (!cell || applied.first[i]! < from || applied.first[i]! > to) continue;
      const weight = applied.count[i]!;
      const done = shareOfOnes(applied, i);
      const skipped = (1 - done) * weight;
      cell.total += weight;
      cell.applied += done * weight;
      if (skipped <= 0) continue;
      const why = reasonShares(reason, applied.first[i]!, applied.last[i]!);
      // What the guard held is said as such: that its gradient was not finite goes without saying.
      cell.guard += skipped * why.guard;
      const left = skipped * (1 - why.guard);
      const bad = Math.min(left, nonFiniteAt(norm, applied.first[i]!, applied.last[i]!));
      cell.nonfinite += bad;
      const byScript = why.guard < 1 ? why.script / (1 - why.guard) : 0;
      cell.script += (left - bad) * byScript;
      cell.scaler += (left - bad) * (1 - byScript);
    }
  }
  const filled = cells.filter((cell) => cell.total > 0);
  for (const cell of filled)
    for (const name of ["applied", "scaler", "script", "guard", "nonfinite"] as const)
      cell[name] /= cell.total;
  return filled;
}

function emptyCell(from: number, to: number): Cell {
  return { from, to, total: 0, applied: 0, scaler: 0, script: 0, guard: 0, nonfinite: 0 };
}

/**
 * Share of ones: exact for points, for uniform buckets and where the server sends sums. A bucket that
 * holds both and begins and ends with the same value is taken to hold one exception.
 */
export function shareOfOnes(columns: Columns, i: number): number {
  if (columns.min[i] === columns.max[i]) return columns.min[i]! > 0 ? 1 : 0;
  const mean = columns.mean[i]!;
  if (mean > 0 && mean < 1) return mean;
  if (columns.start[i] !== columns.value[i]) return 0.5;
  const exception = 1 / Math.max(2, columns.count[i]!);
  return columns.value[i]! > 0 ? 1 - exception : exception;
}

function lowerBound(columns: Columns, step: number): number {
  let low = 0;
  let high = columns.n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (columns.last[middle]! < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nonFiniteAt(norm: Columns | undefined, first: number, last: number): number {
  if (!norm) return 0;
  let count = 0;
  for (let i = lowerBound(norm, first); i < norm.n && norm.first[i]! <= last; i++)
    count += norm.nan[i]! + norm.pinf[i]! + norm.ninf[i]!;
  return count;
}

/** Of what was skipped, the shares of the script (reason 2), of nanwatch's guard (3) and of the scaler (1). */
function reasonShares(reason: Columns | undefined, first: number, last: number) {
  const count = [0, 0, 0, 0];
  if (reason)
    for (let i = lowerBound(reason, first); i < reason.n && reason.first[i]! <= last; i++) {
      const why = reason.max[i]!;
      if (why === 1 || why === 2 || why === 3) count[why]!++;
    }
  const total = count[1]! + count[2]! + count[3]!;
  return total ? { script: count[2]! / total, guard: count[3]! / total } : { script: 1, guard: 0 };
}
