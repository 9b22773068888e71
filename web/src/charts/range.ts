/**
 * A y-range that one wild value cannot flatten. What lies outside is counted by the caller and shown
 * as arrows; the newest values are always inside.
 */
export function robustRange(
  values: number[],
  latest: number[],
  log: boolean,
  wide: boolean,
): [number, number] {
  const usable = (v: number) => Number.isFinite(v) && (!log || v > 0);
  const map = log ? Math.log10 : (v: number) => v;
  const sorted = values
    .filter(usable)
    .map(map)
    .sort((a, b) => a - b);
  if (!sorted.length) return log ? [-1, 1] : [0, 1];
  const least = sorted[0]!;
  const most = sorted[sorted.length - 1]!;
  let low = least;
  let high = most;
  if (!wide) {
    const q02 = quantile(sorted, 0.02);
    const q98 = quantile(sorted, 0.98);
    // Four decades beyond the body keep an explosion in view; 1e30 in a loss of 2 is off scale.
    const slack = log ? Math.max(q98 - q02, 4) : Math.max(1.5 * (q98 - q02), Math.abs(q98) * 0.05);
    // The outermost values that are still within the slack: an empty decade is not kept for one far away.
    low = sorted.find((value) => value >= q02 - slack) ?? least;
    high = sorted.findLast((value) => value <= q98 + slack) ?? most;
    for (const value of latest.filter(usable).map(map)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  const room = high - low || (log ? 0.5 : Math.abs(high) * 0.2 || 1);
  return [low - 0.07 * room, high + 0.07 * room];
}

export function quantile(sorted: number[], share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below]! + (at - below) * (sorted[above]! - sorted[below]!);
}
