import { useSignal, useSignalEffect } from "@preact/signals";
import type { RefObject } from "preact";
import { useCallback, useEffect, useErrorBoundary, useRef, useState } from "preact/hooks";
import type { Panel, Source } from "../panels/panel";
import type { RunStore } from "../state/run";
import { palette } from "../state/theme";
import { changeView, setChartFlag, view } from "../state/view";
import { Readings, TableView } from "./ChartParts";
import { saveCsv } from "./csv";
import { dragging } from "./cursor";
import { Crosshair, type Drawn, Edges, leave, onKey, onPointer } from "./Overlay";
import { draw, MARGIN, purge } from "./plot";
import { dequeue, enqueue } from "./queue";
import { Rails, Strip } from "./Rails";
import { positionTicks } from "./ticks";
import { type Placing, placing, shownSteps } from "./window";

const PURGE_AFTER_MS = 30_000;
/** Dragging on a touch screen must scroll the page; the toolbar zooms there. */
const COARSE = window.matchMedia("(pointer: coarse)").matches;

export function sourceOf(store: RunStore): Source | null {
  const detail = store.detail.value;
  if (!detail) return null;
  return {
    detail,
    commands: [...store.commands.value.values()],
    checkpoints: store.checkpoints.value,
    seriesOf: (...kinds) => store.seriesOf(...kinds),
    columns: (id) => store.columns(id),
  };
}

/** A panel whose drawing throws shows its own card; the rest of the page lives on. */
export function Chart(props: { panel: Panel; store: RunStore }) {
  const [error, retry] = useErrorBoundary();
  if (error)
    return (
      <figure class="chart chart-broken" data-testid={props.panel.testId}>
        <h3>{props.panel.title}</h3>
        <p>This chart could not be drawn: {String(error instanceof Error ? error.message : error)}</p>
        <button type="button" onClick={retry}>
          Draw again
        </button>
      </figure>
    );
  return <ChartBody {...props} />;
}

function ChartBody({ panel, store }: { panel: Panel; store: RunStore }) {
  const plot = useRef<HTMLDivElement>(null);
  const figureRef = useRef<HTMLElement>(null);
  const width = useSignal(0);
  const near = useSignal(false);
  const seen = useSignal(false);
  const latest = useRef<Drawn | null>(null);
  const [drawn, setDrawn] = useState<Drawn | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const [tableOpen, setTableOpen] = useState(false);
  if (failed) throw failed;

  // Two frames: first the figure and what is HTML in it, then the plot. Neither makes a long task.
  const paint = useCallback(() => {
    const element = plot.current;
    const next = latest.current;
    if (!element || !next || dragging.peek()) return;
    const { place } = next;
    const range: [number, number] = [place.toX(next.steps[0]), place.toX(next.steps[1])];
    const frame = {
      width: next.scale.width,
      height: panel.height,
      range,
      ticks: positionTicks(range[0], range[1], view.peek().x, next.scale.width < 420 ? 3 : 5),
      palette: palette.peek(),
      place: place.toX,
      frozen: COARSE,
    };
    draw(element, next.figure, frame, (zoom) => onZoom(zoom, place)).catch(setFailed);
  }, [panel]);
  const redraw = useCallback(() => {
    if (!near.peek() || width.peek() < 40) return;
    try {
      const next = compose(panel, store, width.peek());
      latest.current = next;
      setDrawn(next);
      if (next) enqueue(paint);
    } catch (error) {
      setFailed(error);
    }
  }, [panel, store, paint]);

  useSignalEffect(() => {
    // Read everything that changes the picture, then draw in a later frame.
    void [store.detail.value?.series.length, store.commands.value, view.value, palette.value, width.value];
    // Live points redraw only what is on screen; what is near it is drawn once and then left alone.
    if (seen.value) void store.picture.value;
    if (near.value && !dragging.value) enqueue(redraw);
  });
  useEffect(() => store.want(panel.kinds), [panel, store]);
  useNear(figureRef, plot, near, seen, width);
  useEffect(
    () => () => {
      dequeue(redraw);
      dequeue(paint);
    },
    [redraw, paint],
  );

  const flags = view.value.flags[panel.id] ?? {};
  const log = flags.log ?? panel.log;
  const figure = drawn?.figure;
  return (
    <figure
      class={`chart${panel.full ? " chart-full" : ""}`}
      data-testid={panel.testId}
      ref={figureRef}
      aria-label={panel.title}
    >
      <header class="chart-head">
        <h3>
          {panel.title}
          {panel.unit ? <small>{panel.unit}</small> : null}
        </h3>
        <div class="chart-tools">
          {panel.mayLog ? (
            <button
              type="button"
              class="quiet"
              aria-pressed={log}
              onClick={() => setChartFlag(panel.id, "log", !log)}
              title="Logarithmic axis"
            >
              log
            </button>
          ) : null}
          <button
            type="button"
            class="quiet"
            aria-pressed={tableOpen}
            onClick={() => setTableOpen(!tableOpen)}
            title="View as table"
          >
            table
          </button>
          <button
            type="button"
            class="quiet"
            disabled={!figure}
            onClick={() =>
              figure && saveCsv(`${store.detail.peek()?.name ?? "run"}-${panel.id}`, figure.exportTable())
            }
            title="Export what is in view as CSV; NaN and Infinity stay words"
          >
            CSV
          </button>
        </div>
      </header>
      {figure ? <Readings figure={figure} /> : <div class="readings" />}
      <div class="plot-wrap" style={{ minHeight: `${panel.height}px` }}>
        {drawn ? <Rails figure={drawn.figure} scale={drawn.scale} /> : null}
        <fieldset
          class="plot-area"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys move the cursor over the values
          tabIndex={0}
          aria-label={`${figure?.summary ?? panel.title} Arrow keys move the cursor.`}
          onPointerMove={(event) => drawn && onPointer(event, drawn)}
          onPointerLeave={leave}
          onBlur={leave}
          onKeyDown={(event) => drawn && onKey(event, drawn)}
        >
          <div
            ref={plot}
            class={`plot${figure?.rows ? " plot-hatched" : ""}`}
            style={{ height: `${panel.height}px` }}
            onPointerDown={() => {
              dragging.value = true;
            }}
          />
          {drawn ? <Crosshair drawn={drawn} height={panel.height} /> : null}
          {drawn ? <Edges panel={panel} drawn={drawn} /> : null}
        </fieldset>
        {drawn ? <Strip figure={drawn.figure} scale={drawn.scale} /> : null}
      </div>
      <figcaption>
        <span class="visually-hidden">{figure?.summary}</span>
        {figure?.legend ? (
          <span class="chart-note">
            {figure.legend.low} <i class="legend-heat" /> {figure.legend.high} · × not finite · hatched: no
            data
          </span>
        ) : null}
        {figure?.note ? <span class="chart-note">{figure.note}</span> : null}
        {flags.wide ? (
          <button type="button" class="quiet" onClick={() => setChartFlag(panel.id, "wide", false)}>
            fit to the bulk
          </button>
        ) : null}
        {figure && log && figure.spans.some((span) => span.kind === "nonpositive") ? (
          <button type="button" class="quiet" onClick={() => setChartFlag(panel.id, "log", false)}>
            values ≤ 0: use a linear axis
          </button>
        ) : null}
      </figcaption>
      {tableOpen && figure ? <TableView table={figure.table()} title={panel.title} /> : null}
    </figure>
  );
}

/** Everything a drawing needs, from the data as it is now. */
function compose(panel: Panel, store: RunStore, width: number): Drawn | null {
  const source = sourceOf(store);
  if (!source) return null;
  const data = panel.select(source);
  if (data === null) return null;
  const looks = view.peek();
  const steps = shownSteps(store, looks);
  const place = placing(store, looks.x);
  const flags = looks.flags[panel.id] ?? {};
  const figure = panel.draw(data, {
    from: steps[0],
    to: steps[1],
    log: panel.mayLog && (flags.log ?? panel.log),
    smooth: looks.smooth,
    wide: flags.wide ?? false,
    place: place.toX,
    colors: palette.peek(),
  });
  const [x0, x1] = [place.toX(steps[0]), place.toX(steps[1])];
  const inner = width - MARGIN.left - MARGIN.right;
  const pixel = (step: number) => MARGIN.left + ((place.toX(step) - x0) / (x1 - x0)) * inner;
  return { figure, scale: { width, pixel }, place, steps };
}

function onZoom(zoom: [number, number] | null, place: Placing): void {
  dragging.value = false;
  if (!zoom) {
    changeView({ zoom: null }, true);
    return;
  }
  const steps: [number, number] = [place.toStep(zoom[0]), place.toStep(zoom[1])];
  if (steps[1] - steps[0] < 1) return;
  changeView({ zoom: steps }, true);
}

/** Charts near the screen are drawn, those long gone are purged; the width is measured once a change. */
function useNear(
  figure: RefObject<HTMLElement | null>,
  plot: RefObject<HTMLDivElement | null>,
  near: { value: boolean },
  seen: { value: boolean },
  width: { value: number },
): void {
  useEffect(() => {
    const box = figure.current;
    const canvas = plot.current;
    if (!box || !canvas) return;
    let timer = 0;
    const onScreen = new IntersectionObserver((entries) => {
      seen.value = entries.at(-1)!.isIntersecting;
    });
    const around = new IntersectionObserver(
      (entries) => {
        near.value = entries.at(-1)!.isIntersecting;
        clearTimeout(timer);
        if (!near.value) timer = window.setTimeout(() => void purge(canvas), PURGE_AFTER_MS);
      },
      { rootMargin: "300px" },
    );
    const sized = new ResizeObserver((entries) => {
      const next = Math.floor(entries.at(-1)!.contentRect.width);
      // A hidden chart measures zero: keep the last width.
      if (next > 0 && next !== width.value) width.value = next;
    });
    around.observe(box);
    onScreen.observe(box);
    sized.observe(canvas);
    return () => {
      clearTimeout(timer);
      around.disconnect();
      onScreen.disconnect();
      sized.disconnect();
      void purge(canvas);
    };
  }, []);
}

window.addEventListener("pointerup", () => {
  // After Plotly's own handler, which reads the drag it has just ended.
  setTimeout(() => {
    dragging.value = false;
  }, 50);
});
