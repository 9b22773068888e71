/**
 * Debiased exponential mean, weighted by the distance between points (so that the picture does not
 * depend on how densely the server answered). A non-finite value starts it anew: it never carries a
 * number across a NaN, and skipped values are not averaged in.
 */
export function ema(x: Float64Array, y: Float64Array, smoothing: number, span: number): Float64Array {
  const smooth = new Float64Array(y.length);
  const unit = span > 0 ? span / 1000 : 1;
  let mean = 0;
  let weight = 0;
  let previous = Number.NaN;
  for (let i = 0; i < y.length; i++) {
    const value = y[i]!;
    if (!Number.isFinite(value)) {
      smooth[i] = Number.NaN;
      mean = 0;
      weight = 0;
      previous = Number.NaN;
      continue;
    }
    const distance = Number.isNaN(previous) ? 1 : Math.max(1, (x[i]! - previous) / unit);
    const keep = smoothing ** distance;
    mean = keep * mean + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    smooth[i] = weight > 0 ? mean / weight : value;
    previous = x[i]!;
  }
  return smooth;
}
