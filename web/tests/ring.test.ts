import { describe, expect, it } from "vitest";
import { columnsFromPoints } from "../src/net/series";
import { mergeLive, PointRing } from "../src/state/ring";
import { Timeline } from "../src/state/timeline";

const history = (from: number, to: number) => {
  const steps = Float64Array.from({ length: to - from + 1 }, (_, i) => from + i);
  return columnsFromPoints(1, steps, steps, steps);
};

const fill = (from: number, to: number, ring = new PointRing()) => {
  for (let step = from; step <= to; step++) ring.push(step, step, step);
  return ring;
};

describe("PointRing", () => {
  it("puts late points in their place and replaces doubles", () => {
    const ring = fill(1, 3);
    ring.push(7, 7, 7);
    ring.push(5, 5, 5);
    ring.push(3, 3, 33);
    ring.push(7, 7, 77);
    const { steps, values } = ring.tail(10);
    expect([...steps]).toEqual([1, 2, 3, 5, 7]);
    expect([...values]).toEqual([1, 2, 33, 5, 77]);
  });

  it("is bounded and keeps the newest", () => {
    const ring = fill(1, 1000, new PointRing(100));
    expect(ring.length).toBeLessThanOrEqual(100);
    expect(ring.lastStep).toBe(1000);
    expect(ring.overflowed).toBe(true);
    const { steps } = ring.tail(50);
    expect(steps[0]).toBe(951);
  });

  it("accepts late points also when it is full", () => {
    const ring = new PointRing(64);
    for (let step = 0; step < 128; step += 2) ring.push(step, step, step);
    ring.push(101, 101, 101);
    const { steps } = ring.tail(64);
    expect([...steps]).toEqual([...steps].sort((a, b) => a - b));
    expect(steps.includes(101)).toBe(true);
  });

  it("trims what the history holds, but keeps the vital signs' tail", () => {
    const ring = fill(1, 100);
    ring.trim(100, 20);
    expect(ring.length).toBe(20);
    expect(ring.firstStep).toBe(81);
  });
});

describe("mergeLive", () => {
  it("has no point twice and misses none, wherever the two overlap", () => {
    for (const liveFrom of [1, 40, 60, 61])
      expect([...mergeLive(history(1, 60), fill(liveFrom, 90), 1).last]).toEqual([...history(1, 90).last]);
  });

  it("works with only one of the two, or none", () => {
    expect(mergeLive(undefined, fill(5, 9), 1).n).toBe(5);
    expect(mergeLive(history(5, 9), undefined, 1).n).toBe(5);
    expect(mergeLive(undefined, undefined, 1).n).toBe(0);
  });

  it("keeps non-finite live points", () => {
    const ring = new PointRing();
    ring.push(61, 61, Number.NaN);
    const merged = mergeLive(history(1, 60), ring, 1);
    expect(merged.nan[60]).toBe(1);
  });
});

describe("Timeline", () => {
  it("goes from step to time and back, and beyond its ends", () => {
    const timeline = new Timeline();
    timeline.add(0, 1000);
    timeline.add(100, 1100);
    timeline.add(200, 1400);
    expect(timeline.timeAt(50)).toBe(1050);
    expect(timeline.stepAt(1250)).toBe(150);
    expect(timeline.timeAt(300)).toBe(1700);
  });

  it("stays monotone when a clock jumps back", () => {
    const timeline = new Timeline();
    for (const [step, time] of [
      [0, 100],
      [10, 90],
      [20, 120],
    ] as const)
      timeline.add(step, time);
    expect(timeline.timeAt(10)).toBeCloseTo(110);
  });
});
