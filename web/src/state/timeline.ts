/**
 * Which moment belongs to which step. Charts are kept in steps; relative time and wall clock are
 * only another way to place them, through the anchors known so far (raw points, marks, findings).
 */
export class Timeline {
  private steps: number[] = [];
  private times: number[] = [];
  private pending: [number, number][] = [];

  add(step: number, time: number): void {
    if (Number.isFinite(step) && Number.isFinite(time) && time > 0) this.pending.push([step, time]);
  }

  /** Thin out what many charts add: every column with at most `limit` anchors. */
  addColumn(steps: Float64Array, times: Float64Array, limit = 200): void {
    const stride = Math.max(1, Math.floor(steps.length / limit));
    for (let i = 0; i < steps.length; i += stride) this.add(steps[i]!, times[i]!);
    if (steps.length) this.add(steps[steps.length - 1]!, times[steps.length - 1]!);
  }

  timeAt(step: number): number {
    this.settle();
    return interpolate(this.steps, this.times, step);
  }

  stepAt(time: number): number {
    this.settle();
    return interpolate(this.times, this.steps, time);
  }

  get size(): number {
    this.settle();
    return this.steps.length;
  }

  /** Sort what came in and keep time monotone, so that the map can be turned around. */
  private settle(): void {
    if (!this.pending.length) return;
    const all: [number, number][] = [...this.pending];
    for (let i = 0; i < this.steps.length; i++) all.push([this.steps[i]!, this.times[i]!]);
    this.pending = [];
    all.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const steps: number[] = [];
    const times: number[] = [];
    const stride = all.length > 6000 ? 2 : 1;
    for (let i = 0; i < all.length; i++) {
      const [step, time] = all[i]!;
      const last = steps.length - 1;
      if (stride === 2 && i % 2 && i !== all.length - 1) continue;
      if (last >= 0 && (step <= steps[last]! || time <= times[last]!)) continue;
      steps.push(step);
      times.push(time);
    }
    this.steps = steps;
    this.times = times;
  }
}

function interpolate(xs: number[], ys: number[], x: number): number {
  const n = xs.length;
  if (n === 0) return Number.NaN;
  if (n === 1) return ys[0]! + (x - xs[0]!);
  let low = 0;
  let high = n - 1;
  if (x <= xs[0]!) high = 1;
  else if (x >= xs[n - 1]!) low = n - 2;
  else
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle]! <= x) low = middle;
      else high = middle;
    }
  if (high - low !== 1) high = low + 1;
  const share = (x - xs[low]!) / (xs[high]! - xs[low]!);
  return ys[low]! + share * (ys[high]! - ys[low]!);
}
