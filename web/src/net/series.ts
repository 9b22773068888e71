import type { Frame } from "./frame";

/**
 * Columns of one series, one row per bucket; a raw point is a bucket of one.
 * So charts have one form to draw, whatever the server answered.
 */
export interface Columns {
  id: number;
  n: number;
  /** True if every row is one point. */
  raw: boolean;
  first: Float64Array;
  last: Float64Array;
  min: Float64Array;
  max: Float64Array;
  minStep: Float64Array;
  maxStep: Float64Array;
  /** First finite value of the row, NaN without one. */
  start: Float64Array;
  /** Last finite value of the row, NaN without one. */
  value: Float64Array;
  /** Mean of the finite values where the server sends sums, else the last finite value. */
  mean: Float64Array;
  /** Finite values in the row. */
  count: Float64Array;
  nan: Float64Array;
  pinf: Float64Array;
  ninf: Float64Array;
  /** Client seconds of the row's last point; empty if the answer carries none. */
  time: Float64Array;
}

interface RawHeader {
  id: number;
  mode: "raw";
  n: number;
  steps: number;
  times: number;
  values: number;
}

interface BucketHeader {
  id: number;
  mode: "buckets";
  n: number;
  first_step: number;
  last_step: number;
  min: number;
  max: number;
  min_step: number;
  max_step: number;
  first: number;
  last: number;
  count: number;
  nan: number;
  pinf: number;
  ninf: number;
  sum?: number;
  last_time?: number;
}

export function readSeries(frame: Frame): Map<number, Columns> {
  const found = new Map<number, Columns>();
  for (const item of (frame.header.series ?? []) as (RawHeader | BucketHeader)[]) {
    found.set(item.id, item.mode === "raw" ? readRaw(frame, item) : readBuckets(frame, item));
  }
  return found;
}

function readRaw(frame: Frame, item: RawHeader): Columns {
  return columnsFromPoints(
    item.id,
    frame.block(item.steps, item.n),
    frame.block(item.times, item.n),
    frame.block(item.values, item.n),
  );
}

function readBuckets(frame: Frame, item: BucketHeader): Columns {
  const at = (offset: number) => frame.block(offset, item.n);
  const value = at(item.last);
  const [nan, pinf, ninf] = [at(item.nan), at(item.pinf), at(item.ninf)];
  // On the wire a bucket counts all its points; here, the finite ones.
  const count = at(item.count).map((all, i) => Math.max(0, all - nan[i]! - pinf[i]! - ninf[i]!));
  const sum = item.sum === undefined ? null : at(item.sum);
  return {
    id: item.id,
    n: item.n,
    raw: false,
    first: at(item.first_step),
    last: at(item.last_step),
    min: at(item.min),
    max: at(item.max),
    minStep: at(item.min_step),
    maxStep: at(item.max_step),
    start: at(item.first),
    value,
    mean: sum ? sum.map((total, i) => meanOf(total, count[i]!, value[i]!)) : value,
    count,
    nan,
    pinf,
    ninf,
    time: item.last_time === undefined ? new Float64Array(0) : at(item.last_time),
  };
}

function meanOf(total: number, count: number, fallback: number): number {
  return count > 0 && Number.isFinite(total) ? total / count : fallback;
}

/** Raw points as columns; a non-finite value leaves NaN in the value columns and a count of its kind. */
export function columnsFromPoints(
  id: number,
  steps: Float64Array,
  times: Float64Array,
  values: Float64Array,
): Columns {
  const n = steps.length;
  const finite = values.map((v) => (Number.isFinite(v) ? v : Number.NaN));
  return {
    id,
    n,
    raw: true,
    first: steps,
    last: steps,
    min: finite,
    max: finite,
    minStep: steps,
    maxStep: steps,
    start: finite,
    value: finite,
    mean: finite,
    count: values.map((v) => (Number.isFinite(v) ? 1 : 0)),
    nan: values.map((v) => (Number.isNaN(v) ? 1 : 0)),
    pinf: values.map((v) => (v === Number.POSITIVE_INFINITY ? 1 : 0)),
    ninf: values.map((v) => (v === Number.NEGATIVE_INFINITY ? 1 : 0)),
    time: times,
  };
}

const NUMBER_COLUMNS = [
  "first",
  "last",
  "min",
  "max",
  "minStep",
  "maxStep",
  "start",
  "value",
  "mean",
  "count",
  "nan",
  "pinf",
  "ninf",
] as const;

/** Two runs of columns after one another; the caller has made sure that they do not overlap. */
export function concatColumns(a: Columns, b: Columns): Columns {
  if (a.n === 0) return b;
  if (b.n === 0) return a;
  const joined = { ...a, n: a.n + b.n, raw: a.raw && b.raw, time: join(timesOf(a), timesOf(b)) };
  for (const name of NUMBER_COLUMNS) joined[name] = join(a[name], b[name]);
  return joined;
}

function timesOf(columns: Columns): Float64Array {
  return columns.time.length === columns.n ? columns.time : new Float64Array(columns.n).fill(Number.NaN);
}

function join(a: Float64Array, b: Float64Array): Float64Array {
  const joined = new Float64Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
