import { lineFigure } from "../charts/lines";
import type { RunDetail } from "../net/types";
import { color, dash, label, type NamedSeries, named, type Panel } from "./panel";

/** Kinds that other panels draw, or that are no curve. */
const TAKEN = new Set([
  "loss",
  "grad_norm",
  "clip_threshold",
  "update_applied",
  "skip_reason",
  "q_mean",
  "q_std",
  "q_min",
  "q_max",
  "q_target_mean",
  "lr",
  "lr_scheduled",
  "task",
]);

interface Look {
  title: string;
  unit?: string;
  log?: boolean;
}

/** Titles of the kinds of the contract; the order is the order on the page. */
const LOOKS: Record<string, Look> = {
  reward: { title: "Reward" },
  entropy: { title: "Entropy", unit: "nat" },
  kl: { title: "KL divergence", unit: "nat", log: true },
  explained_variance: { title: "Explained variance" },
  reward_abs_max: { title: "Largest reward, absolute", log: true },
  logit_max: { title: "Largest logit, absolute", log: true },
  loss_scale: { title: "Loss scale", log: true },
  lr_factor: { title: "Factor on the schedule", log: true },
  param_norm: { title: "Parameter norm", log: true },
  nonfinite: { title: "Non-finite values met" },
  throughput: { title: "Attempts per second" },
  step_time: { title: "Time per step", unit: "s", log: true },
  data_time: { title: "Waiting for data", unit: "s", log: true },
  memory: { title: "Memory of the process", unit: "MiB" },
};

/** A small chart for everything else the run logs: one for each kind, one for each custom name. */
export function otherPanels(detail: RunDetail): Panel<NamedSeries[]>[] {
  const keys = new Map<string, { kind: string; layer: string }>();
  for (const series of detail.series) {
    if (series.rank !== 0 || TAKEN.has(series.kind) || series.kind.endsWith("_layer")) continue;
    const layer = series.kind === "custom" ? series.layer : "";
    keys.set(`${series.kind}:${layer}`, { kind: series.kind, layer });
  }
  const order = Object.keys(LOOKS);
  const place = (kind: string) => (order.includes(kind) ? order.indexOf(kind) : order.length);
  return [...keys.values()]
    .sort((a, b) => place(a.kind) - place(b.kind) || (a.layer < b.layer ? -1 : 1))
    .map(({ kind, layer }) => otherPanel(kind, layer));
}

function otherPanel(kind: string, layer: string): Panel<NamedSeries[]> {
  const look = LOOKS[kind] ?? { title: layer || kind };
  const id = layer ? `${kind}-${layer}` : kind;
  return {
    id,
    title: look.title,
    unit: look.unit,
    testId: `chart-${id}`,
    log: look.log ?? false,
    mayLog: true,
    smooths: true,
    height: 180,
    select: (source) => {
      const series = named(source, kind).filter((one) => !layer || one.layer === layer);
      return series.length ? series : null;
    },
    draw: (series, context) =>
      lineFigure(
        series.map((one, i) => ({
          label: layer ? label(one, layer) : label(one, one.layer || look.title.toLowerCase()),
          columns: one.columns,
          color: color(context, one.color + (kind === "nonfinite" ? i : 0)),
          dash: dash(one.color),
          smooth: true,
        })),
        context,
        { subject: look.title },
      ),
  };
}
