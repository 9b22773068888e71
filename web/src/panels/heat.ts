/** One value for each layer over the steps, as colours: where trouble begins. Makes panels; draws nothing. */
import type { Figure, Reading, Table } from "../charts/figure";
import { visible } from "../charts/lines";
import type { Columns } from "../net/series";
import { exportNumber, formatNumber, formatShare, formatStep } from "../ui/format";
import { type NamedSeries, named, type Panel } from "./panel";

const MOST_COLUMNS = 240;
const MOST_ROWS = 200;

/** What is shown and in which words. */
export interface HeatSpec {
  id: string;
  title: string;
  unit: string;
  kind: string;
  /** One value, as in "largest norm". */
  word: string;
  /** Logarithmic from `low` to the first of `ends` that holds everything, or a share from 0 to 1. */
  scale: "log" | "share";
  /** Powers of ten. */
  low?: number;
  ends?: number[];
  /** Least number of layers; fewer are better drawn as lines. */
  atLeast?: number;
  height?: number;
}

export interface Grid {
  rows: string[];
  /** Left edge of each column, in steps, and one more for the end. */
  edges: number[];
  /** Largest value of the cell, not yet log10; NaN without data. */
  values: Float64Array[];
  bad: { row: number; column: number; kind: "nan" | "inf" }[];
}

export function heatPanel(spec: HeatSpec): Panel<NamedSeries[]> {
  return {
    id: spec.id,
    title: spec.title,
    unit: spec.unit,
    testId: `chart-${spec.id}`,
    kinds: [spec.kind],
    log: false,
    mayLog: false,
    height: spec.height ?? 320,
    full: true,
    select: (source) => {
      const series = named(source, spec.kind);
      return series.length >= (spec.atLeast ?? 1) ? series.slice(0, MOST_ROWS) : null;
    },
    draw: (series, context) => {
      const log = spec.scale === "log";
      const grid = layerGrid(series, context.from, context.to, !log);
      const columns = grid.edges.length - 1;
      const middles = Float64Array.from({ length: Math.max(0, columns) }, (_, i) =>
        context.place((grid.edges[i]! + grid.edges[i + 1]!) / 2),
      );
      const rows = grid.rows.length;
      const low = log ? (spec.low ?? -8) : 0;
      const high = log ? colorEnd(grid, spec.ends ?? [3, 6, 12]) : 1;
      const stride = Math.max(1, Math.ceil(rows / 16));
      const bad = grid.bad.slice(0, 600);
      const figure: Figure = {
        traces: [
          {
            type: "heat",
            x: middles,
            z: log ? grid.values.map((row) => row.map((v) => Math.log10(v))) : grid.values,
            low,
            high,
          },
          {
            type: "markers",
            x: Float64Array.from(bad, (cell) => middles[cell.column]!),
            y: Float64Array.from(bad, (cell) => cell.row),
            color: context.colors.text,
            symbol: "x-thin-open",
            size: 6,
          },
        ],
        y: {
          log: false,
          range: [rows - 0.5, -0.5],
          ticks: grid.rows
            .map((name, at) => ({ at, text: shorten(name) }))
            .filter((_, i) => i % stride === 0),
        },
        spans: [],
        above: null,
        below: null,
        levels: [],
        verticals: [],
        rows: grid.rows,
        legend: log ? { low: power(low), high: power(high) } : { low: "0 %", high: "100 %" },
        readings: (step, row) => readings(grid, step, row ?? null, spec),
        summary: summary(grid, spec),
        table: () => table(grid, spec, shownAs(spec)),
        exportTable: () => table(grid, spec, exportNumber),
      };
      return figure;
    },
  };
}

/** Zeros are kept where they mean something (`zeros`); a logarithm has no place for them. */
export function layerGrid(series: NamedSeries[], from: number, to: number, zeros = false): Grid {
  const seen = series.map((one) => ({ ...one, columns: visible(one.columns, from, to) }));
  const steps = new Set<number>();
  for (const { columns } of seen)
    for (let i = 0; i < columns.n; i++)
      if (columns.first[i]! >= from && columns.first[i]! <= to) steps.add(columns.first[i]!);
  const count = Math.max(1, Math.min(MOST_COLUMNS, steps.size));
  const edges = Array.from({ length: count + 1 }, (_, i) => from + (i * (to - from)) / count);
  const values = seen.map(() => new Float64Array(count).fill(Number.NaN));
  const bad: Grid["bad"] = [];
  seen.forEach(({ columns }, row) => {
    const marked = new Map<number, "nan" | "inf">();
    const columnOf = (step: number) =>
      Math.max(0, Math.min(count - 1, Math.floor(((step - from) / (to - from)) * count)));
    const ends = reach(columns);
    for (let i = 0; i < columns.n; i++) {
      const middle = (columns.first[i]! + columns.last[i]!) / 2;
      if (middle < from || middle > to) continue;
      const column = columnOf(middle);
      const value = columns.max[i]!;
      if (value > 0 || (zeros && value === 0))
        for (let at = columnOf(columns.first[i]!); at <= columnOf(ends[i]!); at++)
          if (!(values[row]![at]! >= value)) values[row]![at] = value;
      if (columns.nan[i]! > 0) marked.set(column, "nan");
      else if (columns.pinf[i]! > 0 && !marked.has(column)) marked.set(column, "inf");
    }
    for (const [column, kind] of marked) bad.push({ row, column, kind });
  });
  return {
    rows: seen.map((one) => (one.scope ? `${one.scope} ${one.layer}` : one.layer)),
    edges,
    values,
    bad,
  };
}

/**
 * Step up to which each row stands: a bucket to its end, a value that is measured every few attempts until
 * the next one, so that a change of that cadence leaves no stripes. A longer pause stays empty.
 */
function reach(columns: Columns): Float64Array {
  const gaps = Float64Array.from({ length: Math.max(0, columns.n - 1) }, (_, i) =>
    gapAfter(columns, i),
  ).sort();
  const usual = gaps.length ? gaps[Math.floor(gaps.length * 0.9)]! : 0;
  return Float64Array.from({ length: columns.n }, (_, i) => {
    const last = columns.last[i]!;
    if (i + 1 >= columns.n) return last;
    return gapAfter(columns, i) <= 2 * usual ? columns.first[i + 1]! - 1 : last;
  });
}

function gapAfter(columns: Columns, i: number): number {
  return columns.first[i + 1]! - columns.last[i]!;
}

/** The same colours for every run, except where an explosion would be all one colour. */
function colorEnd(grid: Grid, ends: number[]): number {
  const most = Math.log10(Math.max(0, ...grid.values.map((row) => largestOf(row)).filter(Number.isFinite)));
  return ends.find((end) => most <= end) ?? ends.at(-1)!;
}

function power(exponent: number): string {
  return exponent ? `1e${exponent}` : "1";
}

function shownAs(spec: HeatSpec): (value: number) => string {
  return spec.scale === "share" ? formatShare : formatNumber;
}

function columnAt(grid: Grid, step: number | null): number {
  const count = grid.edges.length - 1;
  if (step === null) return count - 1;
  const share = (step - grid.edges[0]!) / (grid.edges[count]! - grid.edges[0]!);
  return Math.max(0, Math.min(count - 1, Math.floor(share * count)));
}

/** The newest column with data: the axis ends a little behind it. */
function lastFilled(grid: Grid): number {
  let last = grid.edges.length - 2;
  while (
    last > 0 &&
    grid.values.every((row) => Number.isNaN(row[last]!)) &&
    !grid.bad.some((cell) => cell.column === last)
  )
    last--;
  return last;
}

function cellText(grid: Grid, row: number, column: number, number: (v: number) => string): string {
  const mark = grid.bad.find((cell) => cell.row === row && cell.column === column);
  const value = grid.values[row]?.[column] ?? Number.NaN;
  const words = [
    mark ? (mark.kind === "nan" ? "NaN" : "+Inf") : "",
    Number.isNaN(value) ? "" : number(value),
  ];
  return words.filter(Boolean).join(", ") || "no data";
}

function readings(grid: Grid, step: number | null, row: number | null, spec: HeatSpec): Reading[] {
  const number = shownAs(spec);
  const column = step === null ? lastFilled(grid) : columnAt(grid, step);
  if (row !== null && grid.rows[row])
    return [{ label: grid.rows[row]!, color: "", text: cellText(grid, row, column, number) }];
  const largest = grid.values
    .map((values, i) => ({ i, value: values[column]! }))
    .filter((one) => Number.isFinite(one.value))
    .sort((a, b) => b.value - a.value)[0];
  const broken = grid.bad.filter((cell) => cell.column === column).length;
  const found: Reading[] = [];
  if (largest)
    found.push({ label: `largest: ${grid.rows[largest.i]}`, color: "", text: number(largest.value) });
  if (broken) found.push({ label: "non-finite layers", color: "", text: String(broken) });
  return found;
}

function summary(grid: Grid, spec: HeatSpec): string {
  const broken = new Set(grid.bad.map((cell) => cell.row)).size;
  return `${spec.title}: ${formatStep(grid.rows.length)} layers; ${
    broken ? `${broken} with non-finite values in view` : "all finite in view"
  }.`;
}

function table(grid: Grid, spec: HeatSpec, number: (v: number) => string): Table {
  const column = lastFilled(grid);
  return {
    columns: ["layer", `newest ${spec.word}`, "largest in view"],
    rows: grid.rows.map((name, row) => [
      name,
      number === exportNumber
        ? exportNumber(grid.values[row]?.[column] ?? Number.NaN)
        : cellText(grid, row, column, number),
      number(largestOf(grid.values[row]!)),
    ]),
  };
}

function largestOf(values: Float64Array): number {
  let most = Number.NaN;
  for (const value of values) if (!(most >= value) && !Number.isNaN(value)) most = value;
  return most;
}

/** The end of a layer's name says more than its beginning. */
function shorten(name: string): string {
  return name.length > 8 ? `…${name.slice(-7).replace(/^\./, "")}` : name;
}
