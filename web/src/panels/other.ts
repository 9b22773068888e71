import type { RunDetail } from "../net/types";
import { linePanel } from "./lines";
import type { NamedSeries, Panel } from "./panel";

/** What the run logs under names of its own: one small chart for each, in the order of names. */
export function loggedPanels(detail: RunDetail): Panel<NamedSeries[]>[] {
  const names = detail.series.filter((one) => one.kind === "custom").map((one) => one.layer);
  return [...new Set(names)]
    .sort()
    .map((name) =>
      linePanel({ id: `custom-${name}`, title: name, kinds: { custom: name }, layer: name || undefined }),
    );
}

/** Kinds of a newer SDK, or that no panel has taken; `taken` are the kinds that have one. */
export function otherPanels(detail: RunDetail, taken: Set<string>): Panel<NamedSeries[]>[] {
  const kinds = detail.series
    .filter((one) => one.rank === 0 && !taken.has(one.kind) && !one.kind.endsWith("_layer"))
    .map((one) => one.kind);
  return [...new Set(kinds)]
    .sort()
    .map((kind) => linePanel({ id: kind, title: kind.replaceAll("_", " "), kinds: { [kind]: kind } }));
}
