/** Makes panels of plain lines: one kind, or the layers of a kind that stand out. Draws nothing itself. */
import type { Level } from "../charts/figure";
import { lineFigure, visible } from "../charts/lines";
import type { Columns } from "../net/series";
import { color, dash, label, type NamedSeries, named, type Panel } from "./panel";

/** A small chart of one kind or a few that share a unit. */
export interface LineSpec {
  id: string;
  title: string;
  unit?: string;
  /** The kinds, with the word for each where there are several. */
  kinds: Record<string, string>;
  log?: boolean;
  levels?: Level[];
  /** False for counts that are mostly zero: their mean says nothing. */
  smooth?: boolean;
  /** Only the series of this layer or name. */
  layer?: string;
}

export function linePanel(spec: LineSpec): Panel<NamedSeries[]> {
  const kinds = Object.keys(spec.kinds);
  return {
    id: spec.id,
    title: spec.title,
    unit: spec.unit,
    testId: `chart-${spec.id}`,
    kinds,
    log: spec.log ?? false,
    mayLog: true,
    smooths: spec.smooth ?? true,
    height: 180,
    select: (source) => {
      const series = named(source, ...kinds).filter((one) => !spec.layer || one.layer === spec.layer);
      return series.length ? series : null;
    },
    draw: (series, context) => {
      const alike = series.some((one) => one.layer && one.layer !== spec.layer) || kinds.length > 1;
      return lineFigure(
        series.map((one, i) => {
          const index = alike ? i : one.color;
          return {
            label: lineLabel(one, spec),
            columns: one.columns,
            color: color(context, index),
            dash: dash(index),
            smooth: spec.smooth ?? true,
          };
        }),
        context,
        { subject: spec.title, levels: spec.levels },
      );
    },
  };
}

function lineLabel(one: NamedSeries, spec: LineSpec): string {
  const word = spec.kinds[one.kind]!;
  if (spec.layer) return label(one, spec.layer);
  if (one.layer) return [one.scope, one.layer].filter(Boolean).join(" ");
  return Object.keys(spec.kinds).length > 1 ? [one.scope, word].filter(Boolean).join(" ") : label(one, word);
}

/** Lines of the layers that stand out. */
export interface LayerLinesSpec {
  id: string;
  title: string;
  unit?: string;
  kind: string;
  log: boolean;
  levels?: Level[];
  /** Which layers: the largest, or the largest and the smallest. */
  pick: "largest" | "extremes";
}

const MOST_LINES = 6;

export function layerLinesPanel(spec: LayerLinesSpec): Panel<NamedSeries[]> {
  return {
    id: spec.id,
    title: spec.title,
    unit: spec.unit,
    testId: `chart-${spec.id}`,
    kinds: [spec.kind],
    log: spec.log,
    mayLog: true,
    smooths: true,
    height: 180,
    select: (source) => {
      const series = named(source, spec.kind);
      return series.length ? series : null;
    },
    draw: (series, context) => {
      const shown = standingOut(series, context.from, context.to, spec.pick);
      const which = spec.pick === "largest" ? "largest" : "largest and smallest";
      const note =
        shown.length < series.length ? `${shown.length} of ${series.length} layers: the ${which}` : "";
      return lineFigure(
        shown.map((one, i) => ({
          label: [one.scope, one.layer].filter(Boolean).join(" "),
          columns: one.columns,
          color: color(context, i),
          dash: dash(i),
          smooth: true,
        })),
        context,
        { subject: spec.title, levels: spec.levels, note: note || undefined },
      );
    },
  };
}

/**
 * At most six layers, by their mean over what is in view, so that lines do not change places with every
 * point; layers with a value that is not finite come first.
 */
export function standingOut(
  series: NamedSeries[],
  from: number,
  to: number,
  pick: LayerLinesSpec["pick"],
): NamedSeries[] {
  if (series.length <= MOST_LINES) return series;
  const ranked = series
    .map((one) => ({ one, ...typical(visible(one.columns, from, to)) }))
    .sort((a, b) => b.bad - a.bad || b.mean - a.mean);
  const usable = ranked.filter((one) => one.bad || !Number.isNaN(one.mean));
  if (pick === "largest") return usable.slice(0, MOST_LINES).map(({ one }) => one);
  const half = MOST_LINES / 2;
  const top = usable.slice(0, half);
  const bottom = usable.slice(half).slice(-half);
  return [...top, ...bottom].map(({ one }) => one);
}

function typical(columns: Columns): { mean: number; bad: number } {
  let sum = 0;
  let count = 0;
  let bad = 0;
  for (let i = 0; i < columns.n; i++) {
    if (columns.nan[i]! + columns.pinf[i]! + columns.ninf[i]! > 0) bad = 1;
    if (!Number.isFinite(columns.mean[i]!)) continue;
    sum += columns.mean[i]!;
    count++;
  }
  return { mean: count ? sum / count : Number.NaN, bad };
}
