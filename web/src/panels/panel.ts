import type { DrawContext, Figure } from "../charts/figure";
import type { Columns } from "../net/series";
import type { Checkpoint, Command, RunDetail, SeriesInfo } from "../net/types";

/** What panels may read of a run: plain questions, so that they can be tested without a page. */
export interface Source {
  detail: RunDetail;
  commands: Command[];
  checkpoints: Checkpoint[];
  seriesOf(...kinds: string[]): SeriesInfo[];
  columns(id: number): Columns;
}

/** One chart of the run page. */
export interface Panel<Data = unknown> {
  id: string;
  title: string;
  /** Small print beside the title. */
  unit?: string;
  testId: string;
  /** Every kind it draws; series of layers are asked for only where one of them is open. */
  kinds: string[];
  /** Logarithmic unless the reader says otherwise. */
  log: boolean;
  /** False where a logarithm has no meaning. */
  mayLog: boolean;
  smooths?: boolean;
  height: number;
  /** Takes both columns of the page. */
  full?: boolean;
  /** The data, or null if the run sends none. */
  select(source: Source): Data | null;
  draw(data: Data, context: DrawContext): Figure;
  /** Said instead of an empty chart; without it the panel is left out. */
  missing?: string;
}

export interface NamedSeries {
  scope: string;
  stage: string;
  kind: string;
  layer: string;
  /** Index of the scope's colour, the same in every chart of the run. */
  color: number;
  columns: Columns;
}

/** Scopes in a stable order; the number of a scope is its colour. */
export function scopesOf(detail: RunDetail): string[] {
  const scopes = new Set(detail.series.map((series) => baseScope(series.scope)));
  return [...scopes].sort((a, b) =>
    a === detail.main_scope ? -1 : b === detail.main_scope ? 1 : a < b ? -1 : 1,
  );
}

/** `policy#1` is the second parameter group of `policy`. */
export function baseScope(scope: string): string {
  return scope.split("#")[0]!;
}

export function named(source: Source, ...kinds: string[]): NamedSeries[] {
  const scopes = scopesOf(source.detail);
  return source.seriesOf(...kinds).map((series) => ({
    scope: series.scope,
    stage: series.stage,
    kind: series.kind,
    layer: series.layer,
    color: Math.max(0, scopes.indexOf(baseScope(series.scope))),
    columns: source.columns(series.id),
  }));
}

/** Label of a line: the scope where there are several, the word otherwise. */
export function label(series: NamedSeries, word: string): string {
  const stage = series.stage && series.stage !== "train" ? ` (${series.stage})` : "";
  return series.scope ? `${series.scope}${stage}` : `${word}${stage}`;
}

/** Steps at which learning-rate commands took effect. */
export function commandMarks(source: Source): { step: number; label: string }[] {
  return source.commands
    .filter((command) => command.applied_step !== null && /lr/.test(command.kind))
    .map((command) => ({ step: command.applied_step!, label: command.kind }));
}

export function color(context: DrawContext, index: number): string {
  return context.colors.series[index % context.colors.series.length]!;
}

export function dash(index: number): "dash" | "dot" | "dashdot" | undefined {
  return ([undefined, "dash", "dot", "dashdot"] as const)[Math.floor(index / 6) % 4];
}
