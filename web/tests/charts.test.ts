import { describe, expect, it } from "vitest";
import { bandOutline, lonely } from "../src/charts/band";
import { toCsv } from "../src/charts/csv";
import { ema } from "../src/charts/ema";
import type { DrawContext } from "../src/charts/figure";
import { lineFigure, rowText } from "../src/charts/lines";
import { mergeSpans, nonFiniteSpans, nonPositiveSpans } from "../src/charts/rails";
import { robustRange } from "../src/charts/range";
import { positionTicks, valueTicks } from "../src/charts/ticks";
import { points } from "./help";

const NAN = Number.NaN;
const INF = Number.POSITIVE_INFINITY;

export const context = (change: Partial<DrawContext> = {}): DrawContext => ({
  from: 0,
  to: 10,
  log: true,
  smooth: true,
  wide: false,
  place: (step) => step,
  colors: {
    text: "#000000",
    secondary: "#111111",
    muted: "#222222",
    grid: "#333333",
    border: "#444444",
    surface: "#ffffff",
    applied: "#cccccc",
    series: ["#100000", "#200000"],
  },
  ...change,
});

describe("ema", () => {
  it("is debiased: a constant stays constant", () => {
    const x = Float64Array.from({ length: 50 }, (_, i) => i);
    expect(
      [
        ...ema(
          x,
          x.map(() => 3),
          0.9,
          50,
        ),
      ].every((v) => Math.abs(v - 3) < 1e-12),
    ).toBe(true);
  });

  it("starts anew after NaN and never carries a value across", () => {
    const smooth = ema(Float64Array.of(0, 1, 2, 3), Float64Array.of(100, NAN, 1, 1), 0.9, 1000);
    expect(smooth[1]).toBeNaN();
    expect(smooth[2]).toBe(1);
  });

  it("treats infinities like NaN", () => {
    expect(ema(Float64Array.of(0, 1, 2), Float64Array.of(5, INF, 7), 0.9, 1000)[2]).toBe(7);
  });
});

describe("bandOutline", () => {
  it("is one closed polygon for each stretch, with a gap between", () => {
    const columns = { ...points([1, 2, NAN, 3, 4]), raw: false };
    const { x, y } = bandOutline(columns, (step) => step, Number.isFinite);
    expect([...x]).toEqual([0, 1, 1, 0, NAN, 3, 4, 4, 3]);
    expect([...y]).toEqual([1, 2, 2, 1, NAN, 3, 4, 4, 3]);
  });

  it("finds points that no line would show", () => {
    expect(lonely(Float64Array.of(NAN, 1, NAN, 2, 3, NAN, 4))).toEqual([1, 6]);
  });
});

describe("robustRange", () => {
  const many = Array.from({ length: 200 }, (_, i) => 1 + (i % 10) / 10);

  it("is not flattened by one wild value", () => {
    const [, high] = robustRange([...many, 1e30], [1.5], false, false);
    expect(high).toBeLessThan(10);
    const [, highLog] = robustRange([...many, 1e30], [1.5], true, false);
    expect(highLog).toBeLessThan(1);
  });

  it("always contains the newest value, and everything when asked", () => {
    expect(robustRange([...many, 1e30], [1e30], true, false)[1]).toBeGreaterThan(30);
    expect(robustRange([...many, 1e30], [1], true, true)[1]).toBeGreaterThan(30);
  });

  it("keeps an explosion of many steps in view", () => {
    const explosion = Array.from({ length: 40 }, (_, i) => 10 ** (i / 4));
    expect(robustRange([...many, ...explosion], [1], true, false)[1]).toBeGreaterThan(9);
  });

  it("has a range for nothing, for a constant and for values a logarithm cannot take", () => {
    for (const values of [[], [NAN, INF], [3, 3, 3], [0, -1]])
      for (const log of [true, false]) {
        const [low, high] = robustRange(values, [], log, false);
        expect(low).toBeLessThan(high);
      }
  });
});

describe("rails", () => {
  it("counts every non-finite value by kind and joins neighbours", () => {
    const spans = nonFiniteSpans(points([NAN, NAN, 1, INF, -INF, NAN]));
    expect(spans).toEqual([
      { kind: "nan", from: 0, to: 1, count: 2 },
      { kind: "nan", from: 5, to: 5, count: 1 },
      { kind: "+inf", from: 3, to: 3, count: 1 },
      { kind: "-inf", from: 4, to: 4, count: 1 },
    ]);
  });

  it("merges what would overlap on screen and drops nothing", () => {
    const values = Array.from({ length: 1000 }, (_, i) => (i % 2 ? NAN : 1));
    const merged = mergeSpans(nonFiniteSpans(points(values)), (step) => step / 10, 14);
    expect(merged.reduce((sum, span) => sum + span.count, 0)).toBe(500);
    expect(merged.length).toBeLessThan(20);
  });

  it("finds values at or below zero", () => {
    expect(nonPositiveSpans(points([1, 0, -1, 2]))).toEqual([
      { kind: "nonpositive", from: 1, to: 2, count: 2 },
    ]);
  });
});

describe("lineFigure", () => {
  it("puts no value below or at zero, and no infinity, on a logarithmic axis", () => {
    const columns = points([1, 0, -1, NAN, INF, 2]);
    const figure = lineFigure([{ label: "loss", columns, color: "#100000" }], context(), { subject: "Loss" });
    for (const trace of figure.traces)
      if (trace.type === "line") expect([...trace.y].every((v) => Number.isNaN(v) || v > 0)).toBe(true);
    expect(figure.spans.map((span) => span.kind).sort()).toEqual(["+inf", "nan", "nonpositive"]);
    expect(figure.summary).toContain("2 non-finite values");
  });

  it("shows a finite value between two NaN as a marker", () => {
    const figure = lineFigure(
      [{ label: "loss", columns: points([NAN, 1, NAN]), color: "#100000" }],
      context(),
      {
        subject: "Loss",
      },
    );
    const markers = figure.traces.find((trace) => trace.type === "markers");
    expect(markers && "x" in markers ? [...markers.x] : []).toEqual([1]);
  });

  it("has a number axis also for nothing but NaN", () => {
    const figure = lineFigure([{ label: "loss", columns: points([NAN, NAN]), color: "#100000" }], context(), {
      subject: "Loss",
    });
    expect(figure.y.range.every(Number.isFinite)).toBe(true);
    expect(figure.spans[0]!.count).toBe(2);
  });

  it("counts what is off scale", () => {
    const values = Array.from({ length: 200 }, (_, i) => 1 + (i % 7) / 7);
    values[50] = 1e30;
    const figure = lineFigure(
      [{ label: "loss", columns: points(values), color: "#100000" }],
      context({ to: 199, log: false }),
      { subject: "Loss" },
    );
    expect(figure.above).toEqual({ at: 50, count: 1 });
  });

  it("exports the words of non-finite values", () => {
    const figure = lineFigure(
      [{ label: "loss", columns: points([NAN, INF, -INF, -0]), color: "#100000" }],
      context(),
      { subject: "Loss" },
    );
    const csv = toCsv(figure.exportTable());
    expect(
      csv
        .split("\n")
        .slice(1, 5)
        .map((line) => line.split(",")[2]),
    ).toEqual(["-0", "-Infinity", "Infinity", "NaN"]);
  });
});

describe("words and ticks", () => {
  it("says what a row holds", () => {
    expect(rowText(points([NAN]), 0)).toBe("NaN");
    expect(rowText(points([-INF]), 0)).toBe("−Inf");
    expect(rowText(points([0.5]), 0)).toBe("0.5");
    expect(rowText(points([]), 0)).toBe("—");
  });

  it("has about five ticks", () => {
    expect(valueTicks([-8, 10], true).length).toBeLessThanOrEqual(7);
    expect(positionTicks(0, 48_000, "step", 5).map((tick) => tick.at)).toEqual([
      0, 10_000, 20_000, 30_000, 40_000,
    ]);
    expect(positionTicks(0, 3000, "rel", 5).length).toBeGreaterThan(1);
  });

  it("keeps formulas out of spreadsheets and quotes commas", () => {
    expect(toCsv({ columns: ["a"], rows: [["=1+1"], ["x,y"], ["-Infinity"], ["-0.5"]] })).toBe(
      'a\n\'=1+1\n"x,y"\n-Infinity\n-0.5\n',
    );
  });
});
