import type { Columns } from "../net/series";
import { exportNumber, formatNumber, formatStep } from "../ui/format";
import { bandOutline, lonely, middle } from "./band";
import { ema } from "./ema";
import type { DrawContext, Figure, Level, Reading, Span, Table, Trace } from "./figure";
import { nonFiniteSpans, nonPositiveSpans } from "./rails";
import { robustRange } from "./range";
import { valueTicks } from "./ticks";

/** One line of a chart. */
export interface Line {
  label: string;
  columns: Columns;
  color: string;
  /** Smoothed line over a faint raw band; else the raw line alone. */
  smooth?: boolean;
  dash?: "dash" | "dot" | "dashdot";
  steps?: boolean;
  /** Limits are drawn but do not count as data: no marks, no part in the range. */
  quiet?: boolean;
}

export interface LineOptions {
  subject: string;
  levels?: Level[];
  verticals?: { step: number; label: string }[];
  note?: string;
  extra?: Trace[];
}

const SMOOTHING = 0.9;

/** A chart of lines: raw band and mean, rails for what has no place, counted off-scale values. */
export function lineFigure(lines: Line[], context: DrawContext, options: LineOptions): Figure {
  const seen = lines.map((line) => ({ ...line, columns: visible(line.columns, context.from, context.to) }));
  const data = seen.filter((line) => !line.quiet);
  const range = rangeOf(seen, context);
  const traces: Trace[] = [...(options.extra ?? [])];
  for (const line of seen) traces.push(...tracesOf(line, context));
  const spans: Span[] = data.flatMap((line) => nonFiniteSpans(line.columns));
  if (context.log) spans.push(...data.flatMap((line) => nonPositiveSpans(line.columns)));
  return {
    traces,
    y: { log: context.log, range, ticks: valueTicks(range, context.log) },
    spans,
    ...offScale(data, range, context.log),
    levels: (options.levels ?? []).filter((level) => inside(level.y, range, context.log)),
    verticals: options.verticals ?? [],
    readings: (step) => seen.map((line) => reading(line, step)),
    summary: summarise(options.subject, data, spans),
    note: options.note ?? sampleNote(data),
    table: () => valueTable(seen, 200),
    exportTable: () => valueTable(seen, Number.POSITIVE_INFINITY, exportNumber),
  };
}

/** Rows that touch the visible steps, and one more on each side so that lines run off the edge. */
export function visible(columns: Columns, from: number, to: number): Columns {
  let low = 0;
  let high = columns.n;
  while (low < high && columns.last[low]! < from) low++;
  while (high > low && columns.first[high - 1]! > to) high--;
  low = Math.max(0, low - 1);
  high = Math.min(columns.n, high + 1);
  if (low === 0 && high === columns.n) return columns;
  const cut = { ...columns, n: high - low };
  for (const [key, value] of Object.entries(columns))
    if (value instanceof Float64Array && value.length === columns.n)
      (cut as unknown as Record<string, Float64Array>)[key] = value.subarray(low, high);
  return cut;
}

function rangeOf(lines: Line[], context: DrawContext): [number, number] {
  const values: number[] = [];
  const latest: number[] = [];
  for (const { columns, quiet } of lines) {
    for (let i = 0; i < columns.n; i++) values.push(columns.min[i]!, columns.max[i]!);
    if (!quiet && columns.n) latest.push(lastFinite(columns));
  }
  return robustRange(values, latest, context.log, context.wide);
}

function lastFinite(columns: Columns): number {
  for (let i = columns.n - 1; i >= 0; i--) if (Number.isFinite(columns.value[i]!)) return columns.value[i]!;
  return Number.NaN;
}

function tracesOf(line: Line, context: DrawContext): Trace[] {
  const { columns } = line;
  const shown = (value: number) => Number.isFinite(value) && (!context.log || value > 0);
  const steps = new Float64Array(columns.n);
  const raw = new Float64Array(columns.n);
  for (let i = 0; i < columns.n; i++) {
    steps[i] = middle(columns, i);
    // A row that holds a non-finite value breaks the line: the gap is the message.
    const broken = columns.nan[i]! + columns.pinf[i]! + columns.ninf[i]! > 0;
    const value = line.smooth ? typical(columns, i, raw[i - 1]) : columns.mean[i]!;
    raw[i] = shown(value) && !(broken && columns.raw) ? value : Number.NaN;
  }
  const x = steps.map(context.place);
  const traces: Trace[] = [];
  const smooth = Boolean(line.smooth) && context.smooth && columns.n > 20;
  if (!columns.raw && !line.steps) {
    const band = bandOutline(columns, context.place, shown);
    traces.push({ type: "band", x: band.x, y: band.y, color: line.color });
  } else if (smooth) {
    traces.push({ type: "line", x, y: raw, color: line.color, width: 1, opacity: 0.35 });
  }
  const y = smooth ? smoothed(steps, raw, context) : raw;
  traces.push({
    type: "line",
    x,
    y,
    color: line.color,
    width: line.quiet ? 1 : 1.5,
    dash: line.dash,
    steps: line.steps,
  });
  const alone = lonely(raw);
  if (alone.length && !line.quiet)
    traces.push({
      type: "markers",
      x: Float64Array.from(alone, (i) => x[i]!),
      y: Float64Array.from(alone, (i) => raw[i]!),
      color: line.color,
    });
  return traces;
}

/** On a logarithmic axis the mean is geometric: else it would ride on the largest values. */
function smoothed(steps: Float64Array, raw: Float64Array, context: DrawContext): Float64Array {
  const span = context.to - context.from;
  if (!context.log) return ema(steps, raw, SMOOTHING, span);
  return ema(steps, raw.map(Math.log10), SMOOTHING, span).map((value) => 10 ** value);
}

/**
 * What a bucket is mostly like: its mean if the server sends one, else whichever of its first and last
 * value is nearer to the row before. The extremes are in the band; a mean line must not sample them.
 */
function typical(columns: Columns, i: number, before: number | undefined): number {
  const [start, value, mean] = [columns.start[i]!, columns.value[i]!, columns.mean[i]!];
  if (mean !== value || start === value || before === undefined || Number.isNaN(before)) return mean;
  return Math.abs(start - before) < Math.abs(value - before) ? start : value;
}

function inside(value: number, range: [number, number], log: boolean): boolean {
  const at = log ? Math.log10(value) : value;
  return at >= range[0] && at <= range[1];
}

function offScale(lines: Line[], range: [number, number], log: boolean): Pick<Figure, "above" | "below"> {
  const above = { at: 0, count: 0 };
  const below = { at: 0, count: 0 };
  const map = log ? Math.log10 : (v: number) => v;
  for (const { columns } of lines)
    for (let i = 0; i < columns.n; i++) {
      if (map(columns.max[i]!) > range[1]) {
        above.count++;
        above.at = columns.maxStep[i]!;
      }
      if (!(log && columns.min[i]! <= 0) && map(columns.min[i]!) < range[0]) {
        below.count++;
        below.at = columns.minStep[i]!;
      }
    }
  return { above: above.count ? above : null, below: below.count ? below : null };
}

/** Row whose steps are nearest to `step`; the last row without one. */
export function rowAt(columns: Columns, step: number | null): number {
  if (step === null) return columns.n - 1;
  let low = 0;
  let high = columns.n - 1;
  while (low < high) {
    const between = (low + high) >> 1;
    if (columns.last[between]! < step) low = between + 1;
    else high = between;
  }
  const nearer =
    low > 0 && Math.abs(columns.last[low - 1]! - step) < Math.abs(columns.first[low]! - step) ? low - 1 : low;
  return nearer;
}

/** The words for one row: what is there, not what is convenient. */
export function rowText(columns: Columns, i: number, number: (v: number) => string = formatNumber): string {
  if (i < 0 || i >= columns.n) return "—";
  const words: string[] = [];
  if (columns.nan[i]! > 0) words.push("NaN");
  if (columns.pinf[i]! > 0) words.push("+Inf");
  if (columns.ninf[i]! > 0) words.push("−Inf");
  if (columns.count[i]! > 0 || Number.isFinite(columns.value[i]!)) {
    const [low, high] = [columns.min[i]!, columns.max[i]!];
    words.push(low === high ? number(low) : `${number(low)} … ${number(high)}`);
  }
  return words.join(", ") || "—";
}

function reading(line: Line, step: number | null): Reading {
  const i = rowAt(line.columns, step);
  return { label: line.label, color: line.color, text: rowText(line.columns, i) };
}

function summarise(subject: string, lines: Line[], spans: Span[]): string {
  const parts = lines
    .filter((line) => line.columns.n > 0)
    .slice(0, 4)
    .map((line) => {
      const step = formatStep(line.columns.last[line.columns.n - 1]);
      return `${line.label} ${rowText(line.columns, line.columns.n - 1)} at step ${step}`;
    });
  if (!parts.length) return `${subject}: no data in view.`;
  const lost = spans.filter((span) => span.kind !== "nonpositive").reduce((sum, span) => sum + span.count, 0);
  return `${subject}: ${parts.join("; ")}.${lost ? ` ${formatStep(lost)} non-finite values in view.` : ""}`;
}

function sampleNote(lines: Line[]): string {
  const line = lines.find((one) => one.columns.n > 0 && !one.columns.raw);
  if (!line) return "";
  let points = 0;
  for (let i = 0; i < line.columns.n; i++)
    points += line.columns.count[i]! + line.columns.nan[i]! + line.columns.pinf[i]! + line.columns.ninf[i]!;
  return `${formatStep(line.columns.n)} buckets of ${formatStep(points)} points, min and max kept`;
}

function valueTable(lines: Line[], limit: number, number: (v: number) => string = formatNumber): Table {
  const rows: string[][] = [];
  const exact = number === exportNumber;
  for (const { columns, label } of lines)
    for (let i = Math.max(0, columns.n - limit); i < columns.n; i++) {
      const raw = columns.first[i] === columns.last[i];
      const step = exact ? String(columns.last[i]) : formatStep(columns.last[i]);
      const first = exact ? String(columns.first[i]) : formatStep(columns.first[i]);
      rows.push([
        label,
        raw ? step : `${first}–${step}`,
        raw || !exact ? rawWord(columns, i, number) : number(columns.value[i]!),
        number(columns.min[i]!),
        number(columns.max[i]!),
        String(columns.nan[i]),
        String(columns.pinf[i]),
        String(columns.ninf[i]),
      ]);
    }
  rows.reverse();
  return { columns: ["series", "step", "value", "min", "max", "NaN", "+Inf", "−Inf"], rows };
}

function rawWord(columns: Columns, i: number, number: (v: number) => string): string {
  if (columns.pinf[i]! > 0) return number(Number.POSITIVE_INFINITY);
  if (columns.ninf[i]! > 0) return number(Number.NEGATIVE_INFINITY);
  return number(columns.value[i]!);
}
