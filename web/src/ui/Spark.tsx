interface Gap {
  from: number;
  to: number;
}

/** A line of loss without axes, as plain SVG; stretches that are not finite are hatched and marked ×. */
export function Spark({ values, height = 36 }: { values: Float64Array; height?: number }) {
  const n = values.length;
  if (n < 2) return <div class="spark spark-empty" style={{ height: `${height}px` }} />;
  const { path, gaps } = sparkPath(values, height);
  const total = values.reduce((sum, v) => sum + (Number.isFinite(v) ? 0 : 1), 0);
  return (
    <div
      class="spark"
      style={{ height: `${height}px` }}
      role="img"
      aria-label={total ? "Loss, with stretches that are not finite" : "Loss"}
    >
      <svg viewBox={`0 0 1000 ${height}`} preserveAspectRatio="none" aria-hidden="true">
        <path d={path} vector-effect="non-scaling-stroke" />
      </svg>
      {gaps.map((gap) => (
        <i
          key={gap.from}
          class="spark-gap"
          style={{ left: `${(gap.from / n) * 100}%`, width: `${((gap.to - gap.from) / n) * 100}%` }}
        >
          <span>×</span>
        </i>
      ))}
    </div>
  );
}

/** Logarithmic where all values are positive; the extremes of one wild value are cut off at the edge. */
export function sparkPath(values: Float64Array, height: number): { path: string; gaps: Gap[] } {
  const finite = [...values].filter(Number.isFinite);
  const log = finite.length > 0 && finite.every((v) => v > 0);
  const map = (v: number) => (log ? Math.log(v) : v);
  const sorted = finite.map(map).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const slack = 1.5 * (at(0.95) - at(0.05)) || 1;
  const low = Math.max(at(0), at(0.05) - slack);
  const high = Math.min(at(1), at(0.95) + slack);
  const span = high - low || 1;
  const n = values.length;
  const gaps: Gap[] = [];
  let path = "";
  let pen = false;
  for (let i = 0; i < n; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      const gap = gaps.at(-1);
      if (gap && gap.to === i) gap.to = i + 1;
      else gaps.push({ from: i, to: i + 1 });
      pen = false;
      continue;
    }
    const share = Math.max(0, Math.min(1, (map(value) - low) / span));
    const x = ((i + 0.5) / n) * 1000;
    const y = height - 3 - share * (height - 6);
    path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    // A point between two gaps has no line: a short stroke shows it.
    if (!pen && !Number.isFinite(values[i + 1] ?? Number.NaN)) path += "h4";
    pen = true;
  }
  return { path, gaps };
}
