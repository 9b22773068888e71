import { bandOutline } from "../charts/band";
import type { Trace } from "../charts/figure";
import { type Line, lineFigure, visible } from "../charts/lines";
import type { Columns } from "../net/series";
import { parseMetric } from "../ui/format";
import { linePanel } from "./lines";
import { color, type NamedSeries, named, type Panel } from "./panel";

interface Data {
  means: NamedSeries[];
  stds: NamedSeries[];
  extremes: NamedSeries[];
  targets: NamedSeries[];
  /** r_max / (1 − γ), null where one of them is not known. */
  bound: number | null;
}

/** Values of the critics with the largest value they can honestly have. */
export const q: Panel<Data> = {
  id: "q",
  title: "Q values",
  unit: "mean ± std, min and max",
  testId: "chart-q",
  kinds: ["q_mean", "q_std", "q_min", "q_max", "q_target_mean"],
  log: false,
  mayLog: true,
  height: 260,
  select: (source) => {
    const means = named(source, "q_mean");
    const extremes = named(source, "q_min", "q_max");
    if (!means.length && !extremes.length) return null;
    return {
      means,
      extremes,
      stds: named(source, "q_std"),
      targets: named(source, "q_target_mean"),
      bound: valueBound(source.detail.config, named(source, "reward_abs_max")[0]?.columns),
    };
  },
  draw: ({ means, stds, extremes, targets, bound }, context) => {
    const lines: Line[] = means.map((one) => ({
      label: one.scope ? `${one.scope} mean` : "mean",
      columns: one.columns,
      color: color(context, one.color),
    }));
    for (const one of targets)
      lines.push({
        label: `${one.scope} target`.trim(),
        columns: one.columns,
        color: color(context, one.color),
        dash: "dash",
      });
    for (const one of extremes)
      lines.push({
        label: `${one.scope} ${one.kind === "q_min" ? "min" : "max"}`.trim(),
        columns: one.columns,
        color: color(context, one.color),
        dash: "dot",
      });
    const extra: Trace[] = context.log
      ? []
      : means.flatMap((mean) => {
          const std = stds.find((one) => one.scope === mean.scope);
          if (!std) return [];
          const around = spread(
            visible(mean.columns, context.from, context.to),
            visible(std.columns, context.from, context.to),
          );
          const band = bandOutline(around, context.place, Number.isFinite);
          return [{ type: "band" as const, x: band.x, y: band.y, color: color(context, mean.color) }];
        });
    const levels = bound === null ? [] : [-bound, bound].map((y) => ({ y, label: "r_max / (1 − γ)" }));
    return lineFigure(lines, context, { subject: "Q values", levels, extra });
  },
  missing: "This run does not send Q statistics: run.log(q=…)",
};

/** How far the critic has run from its target: a gap that grows is bootstrapping on its own errors. */
export const qGap = linePanel({
  id: "q_target_gap",
  title: "Critic minus its target",
  kinds: { q_target_gap: "gap" },
  levels: [{ y: 0, label: "0" }],
});

/** Mean ± std where both have a value for the same steps. */
export function spread(mean: Columns, std: Columns): Columns {
  const atStep = new Map<number, number>();
  for (let i = 0; i < std.n; i++) atStep.set(std.last[i]!, std.mean[i]!);
  const width = mean.last.map((step) => atStep.get(step) ?? Number.NaN);
  return {
    ...mean,
    min: mean.mean.map((value, i) => value - width[i]!),
    max: mean.mean.map((value, i) => value + width[i]!),
  };
}

export function valueBound(config: Record<string, string>, rewards: Columns | undefined): number | null {
  const gamma = parseMetric(config.gamma ?? config.discount ?? "");
  if (gamma === null || !(gamma > 0 && gamma < 1) || !rewards?.n) return null;
  let most = 0;
  for (let i = 0; i < rewards.n; i++) if (rewards.max[i]! > most) most = rewards.max[i]!;
  return most > 0 ? most / (1 - gamma) : null;
}
