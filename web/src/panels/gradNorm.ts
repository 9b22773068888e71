import { lineFigure, rowAt, visible } from "../charts/lines";
import type { Columns } from "../net/series";
import { color, dash, label, type NamedSeries, named, type Panel } from "./panel";

interface Data {
  norms: NamedSeries[];
  /** After clipping. */
  clipped: NamedSeries[];
  limits: NamedSeries[];
}

const CELLS = 100;

export const gradNorm: Panel<Data> = {
  id: "grad-norm",
  title: "Gradient norm, before clipping",
  testId: "chart-grad-norm",
  kinds: ["grad_norm", "grad_norm_clipped", "clip_threshold"],
  log: true,
  mayLog: true,
  smooths: true,
  height: 260,
  select: (source) => {
    const norms = named(source, "grad_norm");
    const clipped = named(source, "grad_norm_clipped");
    return norms.length ? { norms, clipped, limits: named(source, "clip_threshold") } : null;
  },
  draw: ({ norms, clipped, limits }, context) => {
    const lines = [
      ...norms.map((one) => ({
        label: label(one, "norm"),
        columns: one.columns,
        color: color(context, one.color),
        dash: dash(one.color),
        smooth: true,
      })),
      ...clipped.map((one) => ({
        label: one.scope ? `${one.scope} after clipping` : "after clipping",
        columns: one.columns,
        color: color(context, one.color),
        quiet: true,
      })),
      ...limits.map((one) => ({
        label: one.scope ? `clip ${one.scope}` : "clip",
        columns: one.columns,
        color: context.colors.secondary,
        dash: "dash" as const,
        steps: true,
        quiet: true,
      })),
    ];
    const figure = lineFigure(lines, context, { subject: "Gradient norm before clipping" });
    const cells = clipCells(norms, limits, context.from, context.to);
    return cells.length ? { ...figure, strip: { label: "clipped", cells } } : figure;
  },
  missing: "This run sends no gradient norm yet.",
};

/** Share of the attempts in each cell whose norm was above the limit in force, over all scopes. */
export function clipCells(
  norms: NamedSeries[],
  limits: NamedSeries[],
  from: number,
  to: number,
): { from: number; to: number; share: number }[] {
  const pairs = norms.flatMap((norm) => {
    const limit =
      limits.find((one) => one.scope === norm.scope) ?? (limits.length === 1 ? limits[0] : undefined);
    return limit?.columns.n ? [{ norm: visible(norm.columns, from, to), limit: limit.columns }] : [];
  });
  if (!pairs.length || !(to > from)) return [];
  const clipped = new Float64Array(CELLS);
  const total = new Float64Array(CELLS);
  for (const { norm, limit } of pairs)
    for (let i = 0; i < norm.n; i++) {
      const cell = Math.floor(((norm.first[i]! - from) / (to - from)) * CELLS);
      if (cell < 0 || cell >= CELLS) continue;
      const weight = norm.count[i]! + norm.nan[i]! + norm.pinf[i]!;
      clipped[cell]! += weight * clippedShare(norm, i, limit.value[rowAt(limit, norm.first[i]!)]!);
      total[cell]! += weight;
    }
  const width = (to - from) / CELLS;
  const cells: { from: number; to: number; share: number }[] = [];
  for (let i = 0; i < CELLS; i++)
    if (total[i]! > 0)
      cells.push({ from: from + i * width, to: from + (i + 1) * width, share: clipped[i]! / total[i]! });
  return cells;
}

/** Exact for points; for a bucket that straddles the limit, by where the limit lies between min and max. */
function clippedShare(norm: Columns, i: number, limit: number): number {
  if (!Number.isFinite(limit)) return 0;
  const [low, high] = [norm.min[i]!, norm.max[i]!];
  if (Number.isNaN(high)) return norm.pinf[i]! > 0 ? 1 : 0;
  if (low > limit) return 1;
  if (high <= limit) return 0;
  return (high - limit) / (high - low);
}
