import { describe, expect, it } from "vitest";
import { clipCells, gradNorm } from "../src/panels/gradNorm";
import { layerGrid, layers } from "../src/panels/layers";
import { learningRate } from "../src/panels/learningRate";
import { loss } from "../src/panels/loss";
import { otherPanels } from "../src/panels/other";
import { named } from "../src/panels/panel";
import { q, valueBound } from "../src/panels/q";
import { panelsOf } from "../src/panels/registry";
import { shareOfOnes, updateCells, updates } from "../src/panels/updates";
import { points, sourceWith } from "./help";

const NAN = Number.NaN;

describe("select", () => {
  const empty = sourceWith([]);

  it("is null where the run sends nothing, with words or silence", () => {
    for (const panel of panelsOf(empty.detail)) expect(panel.select(empty)).toBeNull();
    expect(q.missing).toContain("run.log(q=…)");
    expect(layers.missing).toBeUndefined();
  });

  it("finds what each panel draws", () => {
    const source = sourceWith([
      ["loss", "policy", [1, 2]],
      ["grad_norm", "policy", [1, 2]],
      ["clip_threshold", "policy", [1.5, 1.5]],
      ["lr", "policy", [1e-3]],
      ["q_mean", "q1", [4]],
      ["custom", "", [1], "tokens"],
      ["kl", "", [1]],
    ]);
    expect(loss.select(source)).toHaveLength(1);
    expect(gradNorm.select(source)!.limits).toHaveLength(1);
    expect(learningRate.select(source)!.used).toHaveLength(1);
    expect(q.select(source)!.means[0]!.scope).toBe("q1");
    expect(otherPanels(source.detail).map((panel) => panel.id)).toEqual(["kl", "custom-tokens"]);
  });

  it("gives a scope the same colour in every panel", () => {
    const source = sourceWith([
      ["loss", "q1", [1]],
      ["loss", "policy", [1]],
      ["grad_norm", "q1", [1]],
    ]);
    const color = (kind: string) => named(source, kind).find((one) => one.scope === "q1")!.color;
    expect(color("loss")).toBe(color("grad_norm"));
  });
});

describe("clip strip", () => {
  it("is exact for points", () => {
    const source = sourceWith([
      ["grad_norm", "", [0.5, 2, 3, 0.1]],
      ["clip_threshold", "", [1, 1, 1, 1]],
    ]);
    const cells = clipCells(named(source, "grad_norm"), named(source, "clip_threshold"), 0, 3.5);
    const share = cells.reduce((sum, cell) => sum + cell.share, 0) / cells.length;
    expect(share).toBe(0.5);
  });
});

describe("update health", () => {
  const source = sourceWith([
    ["update_applied", "", [1, 1, 0, 0, 0]],
    ["skip_reason", "", [0, 0, 1, 2, 1]],
    ["grad_norm", "", [1, 1, 1, 1, NAN]],
  ]);

  it("tells apart applied, scaler, script and non-finite", () => {
    const cells = updateCells(updates.select(source)!, 0, 4);
    const sum = (name: "applied" | "scaler" | "script" | "nonfinite") =>
      cells.reduce((total, cell) => total + cell[name] * cell.total, 0);
    expect([sum("applied"), sum("scaler"), sum("script"), sum("nonfinite")]).toEqual([2, 1, 1, 1]);
  });

  it("estimates a mixed bucket by its ends, and takes the mean where there is one", () => {
    const bucket = (start: number, value: number, mean: number) => ({
      ...points([1]),
      min: Float64Array.of(0),
      max: Float64Array.of(1),
      start: Float64Array.of(start),
      value: Float64Array.of(value),
      mean: Float64Array.of(mean),
      count: Float64Array.of(50),
    });
    expect(shareOfOnes(bucket(1, 1, 1), 0)).toBeCloseTo(0.98);
    expect(shareOfOnes(bucket(0, 0, 0), 0)).toBeCloseTo(0.02);
    expect(shareOfOnes(bucket(1, 1, 0.3), 0)).toBe(0.3);
  });
});

describe("layers", () => {
  it("keep the largest norm of a cell and mark what is not finite", () => {
    const source = sourceWith([
      ["grad_norm_layer", "", [1, 5, NAN], "a"],
      ["grad_norm_layer", "", [2, NAN, Number.POSITIVE_INFINITY], "b"],
    ]);
    const grid = layerGrid(layers.select(source)!, 0, 2);
    expect(grid.rows).toEqual(["a", "b"]);
    expect(grid.values[0]![1]).toBe(5);
    expect(grid.bad.map((cell) => `${cell.row}${cell.kind}`).sort()).toEqual(["0nan", "1inf", "1nan"]);
  });
});

describe("Q bound", () => {
  it("is r_max / (1 − γ), and unknown without either", () => {
    expect(valueBound({ gamma: "0.99" }, points([22, 3]))).toBeCloseTo(2200);
    expect(valueBound({}, points([22]))).toBeNull();
    expect(valueBound({ gamma: "1.0" }, points([22]))).toBeNull();
    expect(valueBound({ gamma: "0.99" }, undefined)).toBeNull();
  });
});
