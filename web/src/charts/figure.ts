/** What a chart shows, as plain data: panels make it, `Chart.tsx` and `plot.ts` draw it. */

export interface LineTrace {
  type: "line";
  x: Float64Array;
  y: Float64Array;
  color: string;
  width?: number;
  dash?: "dash" | "dot" | "dashdot";
  opacity?: number;
  /** Right-angled steps instead of slopes, for values that hold until they change. */
  steps?: boolean;
}

/** Points that a line cannot show: a finite value between two gaps. */
export interface MarkerTrace {
  type: "markers";
  x: Float64Array;
  y: Float64Array;
  color: string;
  symbol?: string;
  size?: number;
}

export interface BandTrace {
  type: "band";
  x: Float64Array;
  y: Float64Array;
  color: string;
}

export interface StackTrace {
  type: "stack";
  x: Float64Array;
  y: Float64Array;
  color: string;
  pattern?: "" | "/" | "x" | ".";
}

export interface HeatTrace {
  type: "heat";
  x: Float64Array;
  /** One row for each layer, in the units of the colours; NaN cells stay empty. */
  z: Float64Array[];
  /** Ends of the colours. */
  low: number;
  high: number;
}

export type Trace = LineTrace | MarkerTrace | BandTrace | StackTrace | HeatTrace;

export type NonFiniteKind = "nan" | "+inf" | "-inf" | "nonpositive";

/** Values that have no place on the axis, from step to step, with their number. */
export interface Span {
  kind: NonFiniteKind;
  from: number;
  to: number;
  count: number;
}

export interface Level {
  y: number;
  label: string;
}

export interface Tick {
  at: number;
  text: string;
}

export interface Reading {
  label: string;
  color: string;
  text: string;
}

export interface Table {
  columns: string[];
  rows: string[][];
}

export interface Figure {
  traces: Trace[];
  /** Range in axis units: log10 where `log`. */
  y: { log: boolean; range: [number, number]; ticks: Tick[] };
  spans: Span[];
  above: { at: number; count: number } | null;
  below: { at: number; count: number } | null;
  levels: Level[];
  /** Steps at which commands were applied. */
  verticals: { step: number; label: string }[];
  readings: (step: number | null, row?: number | null) => Reading[];
  summary: string;
  note?: string;
  /** A strip under the plot: shares from 0 to 1 between steps. */
  strip?: { label: string; cells: { from: number; to: number; share: number }[] };
  /** What the colours mean. */
  legend?: { low: string; high: string };
  /** Rows of a chart with layers, top first. */
  rows?: string[];
  table: () => Table;
  exportTable: () => Table;
}

/** What every panel needs to draw. */
export interface DrawContext {
  /** Visible steps. */
  from: number;
  to: number;
  log: boolean;
  smooth: boolean;
  /** Robust range, or everything. */
  wide: boolean;
  /** Step to position on the x axis. */
  place: (step: number) => number;
  colors: Palette;
}

export interface Palette {
  text: string;
  secondary: string;
  muted: string;
  grid: string;
  border: string;
  surface: string;
  /** Updates that happened: present, but nothing to look at. */
  applied: string;
  series: string[];
}
