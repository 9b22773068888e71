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
