import { type Columns, columnsFromPoints, concatColumns } from "../net/series";

/**
 * The newest points of one series, in step order, at most `capacity`.
 * Points that come late or twice (reconnect, resend) are put in their place or replace the old one.
 */
export class PointRing {
  private steps: Float64Array<ArrayBuffer>;
  private times: Float64Array<ArrayBuffer>;
  private values: Float64Array<ArrayBuffer>;
  length = 0;
  /** True once the oldest points were dropped: then a gap towards older data is possible. */
  overflowed = false;

  constructor(private readonly capacity = 4096) {
    const start = Math.min(64, capacity);
    this.steps = new Float64Array(start);
    this.times = new Float64Array(start);
    this.values = new Float64Array(start);
  }

  push(step: number, time: number, value: number): void {
    const last = this.length - 1;
    if (last >= 0 && step <= this.steps[last]!) {
      this.place(step, time, value);
      return;
    }
    this.makeRoom();
    this.set(this.length++, step, time, value);
  }

  get firstStep(): number {
    return this.length ? this.steps[0]! : Number.NaN;
  }

  get lastStep(): number {
    return this.length ? this.steps[this.length - 1]! : Number.NaN;
  }

  get lastValue(): number | undefined {
    return this.length ? this.values[this.length - 1] : undefined;
  }

  /** The newest `n` points (fewer if there are fewer). */
  tail(n: number): { steps: Float64Array; times: Float64Array; values: Float64Array } {
    const from = Math.max(0, this.length - n);
    return {
      steps: this.steps.slice(from, this.length),
      times: this.times.slice(from, this.length),
      values: this.values.slice(from, this.length),
    };
  }

  /** Points after `step` as columns. */
  after(id: number, step: number): Columns {
    const from = Number.isNaN(step) ? 0 : this.upperBound(step);
    return columnsFromPoints(
      id,
      this.steps.slice(from, this.length),
      this.times.slice(from, this.length),
      this.values.slice(from, this.length),
    );
  }

  /** Forget points up to and including `step`, but keep the newest `keep` for the vital signs. */
  trim(step: number, keep: number): void {
    const from = Math.min(this.upperBound(step), Math.max(0, this.length - keep));
    this.dropFirst(from);
  }

  private set(i: number, step: number, time: number, value: number): void {
    this.steps[i] = step;
    this.times[i] = time;
    this.values[i] = value;
  }

  private place(step: number, time: number, value: number): void {
    const at = this.upperBound(step);
    if (at > 0 && this.steps[at - 1] === step) {
      this.set(at - 1, step, time, value);
      return;
    }
    if (at === 0 && this.length >= this.capacity) return;
    const before = this.length;
    this.makeRoom();
    const shift = before - this.length;
    const to = at - shift;
    for (const column of [this.steps, this.times, this.values]) column.copyWithin(to + 1, to, this.length);
    this.length++;
    this.set(to, step, time, value);
  }

  private makeRoom(): void {
    if (this.length < this.steps.length) return;
    if (this.length >= this.capacity) {
      this.overflowed = true;
      // A quarter at once, so that a full ring does not move its whole content for every point.
      this.dropFirst(Math.max(1, this.capacity >> 2));
      return;
    }
    const size = Math.min(this.capacity, this.steps.length * 2);
    this.steps = grown(this.steps, size);
    this.times = grown(this.times, size);
    this.values = grown(this.values, size);
  }

  private dropFirst(n: number): void {
    if (n <= 0) return;
    for (const column of [this.steps, this.times, this.values]) column.copyWithin(0, n, this.length);
    this.length -= n;
  }

  /** Index of the first point with a larger step. */
  private upperBound(step: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle]! <= step) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function grown(column: Float64Array, size: number): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(size);
  larger.set(column);
  return larger;
}

/** Queried history followed by the live points that came after it: none twice, none missing. */
export function mergeLive(history: Columns | undefined, ring: PointRing | undefined, id: number): Columns {
  const empty = columnsFromPoints(id, new Float64Array(0), new Float64Array(0), new Float64Array(0));
  if (!history || history.n === 0) return ring ? ring.after(id, Number.NaN) : empty;
  if (!ring) return history;
  return concatColumns(history, ring.after(id, history.last[history.n - 1]!));
}
