import type { DrawContext } from "../src/charts/figure";
import { type Columns, columnsFromPoints } from "../src/net/series";
import type { RunDetail, SeriesInfo } from "../src/net/types";
import type { Source } from "../src/panels/panel";

/** Raw columns with steps 0, 1, 2 … */
export function points(values: number[], firstStep = 0): Columns {
  const steps = Float64Array.from(values, (_, i) => firstStep + i);
  return columnsFromPoints(1, steps, steps, Float64Array.from(values));
}

/** A run with the given series: `[kind, scope, values]`, and a layer where there is one. */
export function sourceWith(
  series: [string, string, number[], string?][],
  config: Record<string, string> = {},
): Source {
  const infos: SeriesInfo[] = series.map(([kind, scope, , layer], i) => ({
    id: i + 1,
    rank: 0,
    stage: "train",
    scope,
    kind,
    layer: layer ?? "",
  }));
  const detail = { series: infos, main_scope: "", config, controls: [], name: "run" } as unknown as RunDetail;
  return {
    detail,
    commands: [],
    checkpoints: [],
    seriesOf: (...kinds) => infos.filter((info) => kinds.includes(info.kind)),
    columns: (id) => points(series[id - 1]![2]),
  };
}

/** What a chart of the first hundred steps is drawn with. */
export function drawing(log: boolean): DrawContext {
  const shades = { text: "#000000", secondary: "#111111", muted: "#222222", grid: "#333333" };
  return {
    from: 0,
    to: 3,
    log,
    smooth: true,
    wide: false,
    place: (step) => step,
    colors: {
      ...shades,
      border: "#444444",
      surface: "#ffffff",
      applied: "#cccccc",
      series: ["#010101", "#020202", "#030303", "#040404", "#050505", "#060606"],
    },
  };
}
