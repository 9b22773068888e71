/** The only file that touches Plotly. It is loaded when the first chart is near the screen. */
import type Plotly from "plotly.js";
import type { Figure, Palette, Tick, Trace } from "./figure";
import styleUrl from "./plotly-global.css?url";

type PlotlyModule = Pick<typeof Plotly, "react" | "purge" | "Plots">;

export const MARGIN = { left: 60, right: 12, top: 4, bottom: 24 };

let loading: Promise<PlotlyModule> | null = null;

/** Plotly finds its global rules under this id and then inserts no style element of its own (CSP). */
function linkStyles(): void {
  if (document.getElementById("plotly.js-style-global")) return;
  const link = document.createElement("link");
  link.id = "plotly.js-style-global";
  link.className = "no-inline-styles";
  link.rel = "stylesheet";
  link.href = styleUrl;
  document.head.append(link);
}

export function loadPlotly(): Promise<PlotlyModule> {
  loading ??= (async () => {
    linkStyles();
    const module = (await import("plotly.js-cartesian-dist-min")) as unknown as { default: PlotlyModule };
    return module.default;
  })();
  return loading;
}

export interface Frame {
  width: number;
  height: number;
  range: [number, number];
  ticks: Tick[];
  palette: Palette;
  /** Step to position on the x axis. */
  place: (step: number) => number;
  /** No drag to zoom (touch screens scroll instead). */
  frozen: boolean;
}

const CONFIG = {
  displayModeBar: false,
  displaylogo: false,
  responsive: false,
  doubleClick: false,
  showTips: false,
  showSendToCloud: false,
  scrollZoom: false,
} as unknown as Partial<Plotly.Config>;

interface PlotElement extends HTMLElement {
  on?(event: string, handler: (data: Record<string, unknown>) => void): void;
  removeAllListeners?(event: string): void;
}

/** Draw or redraw; everything visible is in the arguments, so calling twice changes nothing. */
export async function draw(
  element: HTMLElement,
  figure: Figure,
  frame: Frame,
  onZoom: (range: [number, number] | null) => void,
): Promise<void> {
  const plotly = await loadPlotly();
  if (!element.isConnected || frame.width < 40) return;
  const data = figure.traces.map((trace) => toPlotly(trace, figure)) as unknown as Plotly.Data[];
  await plotly.react(element, data, layoutOf(figure, frame), CONFIG);
  const plot = element as PlotElement;
  plot.removeAllListeners?.("plotly_relayout");
  plot.removeAllListeners?.("plotly_doubleclick");
  plot.on?.("plotly_relayout", (change) => {
    const low = change["xaxis.range[0]"];
    const high = change["xaxis.range[1]"];
    if (typeof low === "number" && typeof high === "number") onZoom([low, high]);
  });
  plot.on?.("plotly_doubleclick", () => onZoom(null));
}

export async function purge(element: HTMLElement): Promise<void> {
  if (loading) (await loading).purge(element);
}

function layoutOf(figure: Figure, frame: Frame): Partial<Plotly.Layout> {
  const { palette } = frame;
  const axis = {
    gridcolor: palette.grid,
    linecolor: palette.grid,
    tickfont: { size: 12, color: palette.muted },
    zeroline: false,
    ticks: "",
    fixedrange: false,
    tickmode: "array",
  };
  return {
    width: frame.width,
    height: frame.height,
    margin: { l: MARGIN.left, r: MARGIN.right, t: MARGIN.top, b: MARGIN.bottom, pad: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: palette.muted },
    showlegend: false,
    hovermode: false,
    dragmode: frame.frozen ? false : "zoom",
    xaxis: { ...axis, range: frame.range, ...ticksOf(frame.ticks), type: "linear", fixedrange: frame.frozen },
    yaxis: {
      ...axis,
      range: figure.y.range,
      ...ticksOf(figure.y.ticks),
      // Never guessed from the data: a column of NaN must stay a number axis.
      type: figure.y.log ? "log" : "linear",
      fixedrange: true,
    },
    shapes: [...levelShapes(figure, palette), ...verticalShapes(figure, frame)],
  } as unknown as Partial<Plotly.Layout>;
}

function ticksOf(ticks: Tick[]): object {
  return { tickvals: ticks.map((tick) => tick.at), ticktext: ticks.map((tick) => escapeText(tick.text)) };
}

function levelShapes(figure: Figure, palette: Palette): object[] {
  return figure.levels.slice(0, 8).map((level) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: level.y,
    y1: level.y,
    line: { color: palette.secondary, width: 1, dash: "dash" },
  }));
}

function verticalShapes(figure: Figure, frame: Frame): object[] {
  return figure.verticals
    .map((mark) => frame.place(mark.step))
    .filter((at) => at >= frame.range[0] && at <= frame.range[1])
    .slice(-12)
    .map((at) => ({
      type: "line",
      yref: "paper",
      y0: 0,
      y1: 1,
      x0: at,
      x1: at,
      line: { color: frame.palette.border, width: 1, dash: "dot" },
    }));
}

function toPlotly(trace: Trace, figure: Figure): object {
  const common = { hoverinfo: "skip", cliponaxis: true };
  switch (trace.type) {
    case "line":
      return {
        ...common,
        type: "scatter",
        mode: "lines",
        x: trace.x,
        y: trace.y,
        opacity: trace.opacity ?? 1,
        connectgaps: false,
        line: {
          color: trace.color,
          width: trace.width ?? 1.5,
          dash: trace.dash ?? "solid",
          shape: trace.steps ? "hv" : "linear",
          simplify: true,
        },
      };
    case "markers":
      return {
        ...common,
        type: "scatter",
        mode: "markers",
        x: trace.x,
        y: trace.y,
        marker: { color: trace.color, size: trace.size ?? 5, symbol: trace.symbol ?? "circle" },
      };
    case "band":
      return {
        ...common,
        type: "scatter",
        mode: "lines",
        fill: "toself",
        x: trace.x,
        y: trace.y,
        opacity: 1,
        fillcolor: translucent(trace.color, 0.22),
        line: { width: 0, color: trace.color },
      };
    case "stack":
      return {
        ...common,
        type: "scatter",
        mode: "lines",
        stackgroup: "one",
        x: trace.x,
        y: trace.y,
        fillcolor: trace.color,
        fillpattern: trace.pattern ? { shape: trace.pattern, size: 5, solidity: 0.35 } : undefined,
        line: { width: 0, shape: "hv", color: trace.color },
      };
    case "heat":
      return {
        type: "heatmap",
        hoverinfo: "skip",
        x: trace.x,
        y: (figure.rows ?? []).map((_, i) => i),
        z: trace.z,
        zmin: trace.low,
        zmax: trace.high,
        colorscale: "Cividis",
        showscale: false,
        xgap: 0,
        ygap: trace.z.length <= 40 ? 1 : 0,
      };
  }
}

/** "#2776B5" and a share of opacity. */
function translucent(color: string, share: number): string {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${share})`;
}

/** Plotly reads a little HTML in its texts: names from runs must stay text. */
export function escapeText(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
