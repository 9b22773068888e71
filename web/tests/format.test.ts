import { describe, expect, it } from "vitest";
import {
  exportNumber,
  formatDuration,
  formatNumber,
  formatShare,
  formatStep,
  formatText,
  parseMetric,
} from "../src/ui/format";

describe("formatNumber", () => {
  it.each([
    [0, "0"],
    [-0, "0"],
    [0.94, "0.94"],
    [2.87134, "2.871"],
    [41, "41"],
    [9999.6, "10\u2009000"],
    [12400, "12\u2009400"],
    [0.001, "0.001"],
    [0.000999, "9.99e-4"],
    [3e-5, "3e-5"],
    [100000, "1e5"],
    [-2_200_000, "−2.2e6"],
    [-0.5, "−0.5"],
    [1e30, "1e30"],
  ])("%d is %s", (value, text) => expect(formatNumber(value)).toBe(text));

  it("writes words for what is not finite", () => {
    expect(formatNumber(Number.NaN)).toBe("NaN");
    expect(formatNumber(Number.POSITIVE_INFINITY)).toBe("+Inf");
    expect(formatNumber(Number.NEGATIVE_INFINITY)).toBe("−Inf");
  });
});

describe("text of the protocol", () => {
  it("is read without JSON numbers", () => {
    expect(parseMetric("3e-05")).toBe(3e-5);
    expect(parseMetric("NaN")).toBeNaN();
    expect(parseMetric("-Infinity")).toBe(Number.NEGATIVE_INFINITY);
    expect(parseMetric("97 %")).toBeNull();
    expect(parseMetric("")).toBeNull();
    expect(formatText("Infinity")).toBe("+Inf");
    expect(formatText("97 %")).toBe("97 %");
    expect(formatText("")).toBe("—");
  });

  it("goes out as words that Python reads back", () => {
    expect(
      [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0.1].map(exportNumber),
    ).toEqual(["NaN", "Infinity", "-Infinity", "-0", "0.1"]);
  });
});

describe("shares, steps and durations", () => {
  it("never rounds a lost update away", () => {
    expect(formatShare(1)).toBe("100 %");
    expect(formatShare(0.9996)).toBe("99.9 %");
    expect(formatShare(0.0004)).toBe("0.1 %");
    expect(formatShare(Number.NaN)).toBe("—");
  });

  it("reads like speech", () => {
    expect(formatStep(48210)).toBe("48\u2009210");
    expect(formatStep(-1)).toBe("—");
    expect(formatDuration(250)).toBe("4 min 10 s");
    expect(formatDuration(11_400)).toBe("3 h 10 min");
    expect(formatDuration(0.02)).toBe("20 ms");
  });
});
