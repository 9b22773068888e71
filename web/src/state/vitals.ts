import type { RunDetail, SeriesInfo } from "../net/types";
import { formatNumber, formatShare, formatStep } from "../ui/format";

/** What the vital signs read: the newest raw points, and what the wall says of the run. */
export interface VitalSource {
  detail: RunDetail;
  seriesOf(...kinds: string[]): SeriesInfo[];
  tail(id: number, n: number): { steps: Float64Array; values: Float64Array };
  /** Columns of the wall; empty for a run that has left it. */
  wall: Record<string, number>;
}

export interface Vital {
  name: string;
  label: string;
  value: string;
  note?: string;
  /** Stands out by weight and frame: a fact that needs a look, said without colour. */
  standout?: boolean;
}

const WINDOW = 100;

export function vitalsOf(source: VitalSource): Vital[] {
  const vitals: Vital[] = [lossVital(source), gradVital(source)];
  const clip = clipShare(source);
  if (clip !== null) vitals.push({ name: "clip-share", label: "clipped", value: formatShare(clip) });
  const applied = appliedShare(source);
  vitals.push({
    name: "applied",
    label: "updates applied",
    value: applied === null ? "—" : formatShare(applied),
    note: `last ${WINDOW}`,
    standout: applied !== null && applied < 0.5,
  });
  const bad = source.wall.nonfinite_total;
  if (bad !== undefined && !Number.isNaN(bad))
    vitals.push({ name: "nonfinite", label: "non-finite", value: formatStep(bad), standout: bad > 0 });
  const q = newest(source, "q_mean").filter((one) => one.value !== undefined);
  if (q.length) {
    const most = q.reduce((a, b) => (Math.abs(b.value!) > Math.abs(a.value!) ? b : a));
    vitals.push({
      name: "q",
      label: "Q mean",
      value: formatNumber(most.value!),
      note: q.length > 1 ? most.scope : "",
    });
  }
  vitals.push(...lrVitals(source));
  const rate = source.wall.steps_per_s;
  if (rate !== undefined && !Number.isNaN(rate))
    vitals.push({ name: "steps-per-s", label: "step/s", value: formatNumber(rate) });
  const memory = newest(source, "memory")[0]?.value;
  if (memory !== undefined)
    vitals.push({ name: "memory", label: "memory", value: `${formatNumber(memory)} MiB` });
  return vitals;
}

/** Newest value of each scope of a kind, in training. */
export function newest(source: VitalSource, kind: string): { scope: string; value: number | undefined }[] {
  return source
    .seriesOf(kind)
    .filter((series) => series.stage === "train" || series.stage === "")
    .map((series) => ({ scope: series.scope, value: source.tail(series.id, 1).values[0] }));
}

function ofMain(source: VitalSource, kind: string): SeriesInfo | undefined {
  const all = source.seriesOf(kind).filter((series) => series.stage === "train" || series.stage === "");
  return all.find((series) => series.scope === source.detail.main_scope) ?? all[0];
}

function lossVital(source: VitalSource): Vital {
  const series = ofMain(source, "loss");
  const value = series ? source.tail(series.id, 1).values[0] : undefined;
  // On the wall NaN also means unknown: it says something only of a run that sends a loss.
  const text = value ?? (series ? source.wall.loss : undefined);
  const trend = source.wall.loss_trend ?? Number.NaN;
  const sign = Number.isNaN(trend) || trend === 0 ? "" : trend > 0 ? " ↑" : " ↓";
  return {
    name: "loss",
    label: series?.scope ? `loss ${series.scope}` : "loss",
    value: text === undefined ? "—" : `${formatNumber(text)}${sign}`,
    standout: value !== undefined && !Number.isFinite(value),
  };
}

function gradVital(source: VitalSource): Vital {
  const series = ofMain(source, "grad_norm");
  const value = series ? source.tail(series.id, 1).values[0] : undefined;
  const limits = source.seriesOf("clip_threshold");
  const limit = limits.find((one) => one.scope === series?.scope) ?? limits[0];
  const clip = limit ? source.tail(limit.id, 1).values[0] : undefined;
  return {
    name: "grad-norm",
    label: "grad norm",
    value: value === undefined ? "—" : formatNumber(value),
    note: clip === undefined ? "no clipping" : `clip ${formatNumber(clip)}, before clipping`,
    standout: value !== undefined && !Number.isFinite(value),
  };
}

/** Share of the last attempts whose norm was above the limit in force. */
export function clipShare(source: VitalSource): number | null {
  const told = source.wall.clip_share;
  if (told !== undefined && !Number.isNaN(told)) return told;
  const norm = ofMain(source, "grad_norm");
  const limits = source.seriesOf("clip_threshold");
  const limit = limits.find((one) => one.scope === norm?.scope) ?? limits[0];
  if (!norm || !limit) return null;
  const norms = source.tail(norm.id, WINDOW).values;
  const threshold = source.tail(limit.id, 1).values[0];
  if (!norms.length || threshold === undefined) return null;
  return norms.filter((value) => value > threshold).length / norms.length;
}

export function appliedShare(source: VitalSource): number | null {
  const told = source.wall.applied_share;
  if (told !== undefined && !Number.isNaN(told)) return told;
  const series = ofMain(source, "update_applied");
  if (!series) return null;
  const { values } = source.tail(series.id, WINDOW);
  return values.length ? values.filter((value) => value > 0).length / values.length : null;
}

function lrVitals(source: VitalSource): Vital[] {
  const lrs = newest(source, "lr").filter((one) => one.value !== undefined);
  const distinct = new Set(lrs.map((one) => one.value));
  if (!lrs.length) return [];
  if (distinct.size === 1) return [{ name: "lr", label: "LR", value: formatNumber(lrs[0]!.value!) }];
  return lrs.slice(0, 4).map((one, i) => ({
    name: i === 0 ? "lr" : `lr-${one.scope}`,
    label: `LR ${one.scope}`,
    value: formatNumber(one.value!),
  }));
}
