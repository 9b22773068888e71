import { describe, expect, it } from "vitest";
import contract from "../../client_sdk/nanwatch/contract/kinds.py?raw";
import { columnsFromPoints } from "../src/net/series";
import { activations } from "../src/panels/activations";
import { clipCells, gradNorm } from "../src/panels/gradNorm";
import { layerGrid } from "../src/panels/heat";
import { layers } from "../src/panels/layers";
import { learningRate } from "../src/panels/learningRate";
import { standingOut } from "../src/panels/lines";
import { loss } from "../src/panels/loss";
import { named } from "../src/panels/panel";
import { q, valueBound } from "../src/panels/q";
import { groupsOf, panelsOf } from "../src/panels/registry";
import { shareOfOnes, updateCells, updates } from "../src/panels/updates";
import { weights } from "../src/panels/weights";
import { drawing, points, sourceWith } from "./help";

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
    const groups = groupsOf(source.detail).map(({ id, panels }) => [
      id,
      panels.filter((panel) => panel.select(source)).map((panel) => panel.id),
    ]);
    expect(Object.fromEntries(groups)).toEqual({
      main: ["loss", "grad-norm", "lr", "q"],
      logged: ["custom-tokens"],
      policy: ["kl"],
      weights: [],
      optimizer: [],
      activations: [],
      numerics: [],
      system: [],
      more: [],
    });
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

describe("kinds of the contract", () => {
  // Read from the contract itself, so that a new kind without a place on the page fails here.
  const kinds = [...contract.matchAll(/^ {4}"(\w+)": Kind\(/gm)].map((match) => match[1]!);
  const noCurve = ["task", "grad_norm_shard_layer"];

  it("have one place on the page each, in words", () => {
    expect(kinds.length).toBeGreaterThan(40);
    for (const kind of kinds.filter((one) => !noCurve.includes(one))) {
      const layer = kind.endsWith("_layer") || kind === "custom" ? "a.b" : "";
      const source = sourceWith([
        [kind, "", [0.5, 0.25], layer],
        ["loss", "", [1, 2]],
        ["grad_norm", "", [1, 2]],
        ["update_applied", "", [1, 1]],
        ["q_mean", "", [1, 1]],
      ]);
      const drawn = panelsOf(source.detail).filter(
        (panel) => panel.kinds.includes(kind) && panel.select(source) !== null,
      );
      expect(drawn, kind).toHaveLength(1);
      const figure = drawn[0]!.draw(drawn[0]!.select(source), drawing(drawn[0]!.log));
      expect(figure.summary, kind).not.toContain("no data");
      expect(figure.table().rows.length, kind).toBeGreaterThan(0);
    }
  });

  it("show a kind of a newer SDK under its own name", () => {
    const source = sourceWith([["curvature_trace", "", [1, 2]]]);
    const more = groupsOf(source.detail).find((group) => group.id === "more")!;
    expect(more.panels.map((panel) => panel.title)).toEqual(["curvature trace"]);
    expect(more.open).toBe(false);
  });
});

describe("lines of layers", () => {
  const layer = (name: string, values: number[]) =>
    ["update_ratio_layer", "", values, name] as [string, string, number[], string];
  const ten = sourceWith([
    ...Array.from({ length: 9 }, (_, i) => layer(`l${i}`, [10 ** -i, 10 ** -i])),
    layer("broken", [1e-9, NAN]),
  ]);
  const of = (pick: "largest" | "extremes") =>
    standingOut(named(ten, "update_ratio_layer"), 0, 1, pick).map((one) => one.layer);

  it("are those that stand out, the broken ones first", () => {
    expect(of("largest")).toEqual(["broken", "l0", "l1", "l2", "l3", "l4"]);
    expect(of("extremes")).toEqual(["broken", "l0", "l1", "l6", "l7", "l8"]);
  });

  it("are all of them where there are few", () => {
    const few = sourceWith([layer("a", [1]), layer("b", [NAN])]);
    expect(standingOut(named(few, "update_ratio_layer"), 0, 1, "largest")).toHaveLength(2);
  });

  it("carry the guide of 1e-3", () => {
    const [panel] = weights;
    const figure = panel!.draw(panel!.select(ten), drawing(true));
    expect(figure.levels).toEqual([{ y: 1e-3, label: "1e-3" }]);
    expect(figure.note).toBe("6 of 10 layers: the largest and smallest");
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

  it("says what nanwatch held, whether or not the gradient was measured", () => {
    const held = sourceWith([
      ["update_applied", "", [1, 0, 0, 0]],
      ["skip_reason", "", [0, 3, 3, 2]],
      ["grad_norm", "", [1, NAN, 1, 1]],
    ]);
    const [cells] = [updateCells(updates.select(held)!, 0, 3)];
    expect(cells.map((cell) => [cell.guard, cell.nonfinite, cell.script])).toEqual([
      [0, 0, 0],
      [1, 0, 0],
      [1, 0, 0],
      [0, 0, 1],
    ]);
    expect(updates.draw(updates.select(held)!, drawing(false)).readings(1)).toContainEqual(
      expect.objectContaining({ label: "held by nanwatch", text: "100 %" }),
    );
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
  it("leave no stripes where the cadence changes, and leave a pause empty", () => {
    const source = sourceWith([["grad_norm_layer", "", [1], "a"]]);
    const [series] = named(source, "grad_norm_layer");
    const steps = [
      ...Array.from({ length: 10 }, (_, i) => i * 16),
      ...Array.from({ length: 20 }, (_, i) => 160 + i),
    ];
    steps.push(900, 916);
    const at = Float64Array.from(steps);
    series!.columns = columnsFromPoints(
      1,
      at,
      at,
      at.map(() => 2),
    );
    const { values, edges } = layerGrid([series!], 0, 916);
    const filled = (step: number) => {
      const column = edges.findIndex((edge) => edge > step) - 1;
      return !Number.isNaN(values[0]![column < 0 ? values[0]!.length - 1 : column]!);
    };
    expect([0, 30, 70, 150, 160, 178, 905].map(filled)).toEqual(Array(7).fill(true));
    expect([300, 600, 800].map(filled)).toEqual([false, false, false]);
  });

  it("keep a share of zero, which is a healthy layer", () => {
    const source = sourceWith([["dead_fraction_layer", "", [0, 0.5, 0], "a"]]);
    const series = named(source, "dead_fraction_layer");
    expect([...layerGrid(series, 0, 2, true).values[0]!]).toEqual([0, 0.5, 0]);
    expect([...layerGrid(series, 0, 2).values[0]!]).toEqual([NAN, 0.5, NAN]);
    const [dead] = activations;
    const figure = dead!.draw(dead!.select(source), drawing(false));
    expect(figure.legend).toEqual({ low: "0 %", high: "100 %" });
    expect(figure.readings(1, 0)[0]!.text).toBe("50 %");
  });

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
