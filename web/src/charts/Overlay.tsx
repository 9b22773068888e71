import { useMemo } from "preact/hooks";
import type { Panel } from "../panels/panel";
import { setChartFlag } from "../state/view";
import { formatStep } from "../ui/format";
import { cursor, cursorRow } from "./cursor";
import type { Figure } from "./figure";
import { MARGIN } from "./plot";
import type { Scale } from "./Rails";
import type { Placing } from "./window";

/** A figure and where its steps stand on the screen. */
export interface Drawn {
  figure: Figure;
  scale: Scale;
  place: Placing;
  steps: [number, number];
}

export function onPointer(event: PointerEvent, drawn: Drawn): void {
  const area = (event.currentTarget as HTMLElement).getBoundingClientRect();
  const share = (event.clientX - area.left - MARGIN.left) / (drawn.scale.width - MARGIN.left - MARGIN.right);
  if (share < 0 || share > 1) {
    cursor.value = null;
    return;
  }
  const [from, to] = drawn.steps.map(drawn.place.toX) as [number, number];
  cursor.value = drawn.place.toStep(from + share * (to - from));
  const rows = drawn.figure.rows?.length;
  if (rows) {
    const inner = area.height - MARGIN.top - MARGIN.bottom;
    const row = Math.floor(((event.clientY - area.top - MARGIN.top) / inner) * rows);
    cursorRow.set(drawn.figure, row >= 0 && row < rows ? row : null);
  }
}

/** A hundredth of the view with each press; the end of the data and nowhere are one key away. */
export function onKey(event: KeyboardEvent, drawn: Drawn): void {
  const [from, to] = drawn.steps;
  const unit = Math.max(1, (to - from) / (event.shiftKey ? 10 : 100));
  const at = cursor.peek() ?? to;
  if (event.key === "ArrowLeft") cursor.value = Math.max(from, Math.round(at - unit));
  else if (event.key === "ArrowRight") cursor.value = Math.min(to, Math.round(at + unit));
  else if (event.key === "Home") cursor.value = from;
  else if (event.key === "End") cursor.value = to;
  else if (event.key === "Escape") cursor.value = null;
  else return;
  event.preventDefault();
}

export function leave(): void {
  cursor.value = null;
}

export function Crosshair({ drawn, height }: { drawn: Drawn; height: number }) {
  const step = cursor.value;
  if (step === null || step < drawn.steps[0] || step > drawn.steps[1]) return null;
  return (
    <div
      class="crosshair"
      style={{
        transform: `translateX(${drawn.scale.pixel(step)}px)`,
        top: `${MARGIN.top}px`,
        height: `${height - MARGIN.top - MARGIN.bottom}px`,
      }}
    />
  );
}

/** Counts of what lies above and below the axis, and names of the dashed lines. */
export function Edges({ panel, drawn }: { panel: Panel; drawn: Drawn }) {
  const { figure } = drawn;
  const inner = panel.height - MARGIN.top - MARGIN.bottom;
  const top = (value: number) => {
    const at = figure.y.log ? Math.log10(value) : value;
    return MARGIN.top + (1 - (at - figure.y.range[0]) / (figure.y.range[1] - figure.y.range[0])) * inner;
  };
  const arrow = (side: "above" | "below") => {
    const off = figure[side];
    if (!off) return null;
    const text = `${formatStep(off.count)} off scale, newest at step ${formatStep(off.at)}: show all`;
    return (
      <button
        type="button"
        class={`offscale offscale-${side}`}
        data-testid={`offscale-${side}`}
        data-count={off.count}
        title={text}
        aria-label={text}
        onClick={() => setChartFlag(panel.id, "wide", true)}
      >
        {side === "above" ? "▲" : "▼"} {formatStep(off.count)}
      </button>
    );
  };
  const labels = useMemo(() => figure.levels, [figure]);
  return (
    <>
      {arrow("above")}
      {arrow("below")}
      {labels.map((level) => (
        <span key={level.y} class="level-label" style={{ top: `${top(level.y) - 16}px` }}>
          {level.label}
        </span>
      ))}
    </>
  );
}
