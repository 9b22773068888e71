import { describe, expect, it } from "vitest";
import type { Command, Forensics, NonFinite, Problem, SeriesInfo } from "../src/net/types";
import { commandWords, draft, draftLabel, isGrave } from "../src/state/commands";
import { forensicsTitle, mostTelling, nonFiniteWords, tracingWords } from "../src/state/forensics";
import { repairs, repairWords } from "../src/state/repairs";
import { problemsNow, Reports } from "../src/state/reports";

const found = (change: Partial<Forensics> = {}): Forensics => ({
  rank: 0,
  at: 1,
  step: 410,
  trigger: "gradient",
  scope: "",
  verdict: "layer",
  cause: "nan",
  first_forward: "layers.17",
  first_backward: "head",
  producers: ["layers.17"],
  propagators: [],
  text: "",
  recorder_path: "",
  checkpoint_path: "",
  facts: {},
  tracing_steps: 0,
  ...change,
});

describe("forensics in one sentence", () => {
  it.each<[Partial<Forensics>, string]>([
    [{}, "First bad layer: layers.17 (forward), produced NaN from finite inputs"],
    [
      { cause: "overflow" },
      "First bad layer: layers.17 (forward), overflowed to infinity from finite inputs",
    ],
    [
      { first_forward: "", cause: "unknown" },
      "First bad layer: head (backward), produced a non-finite value",
    ],
    [{ producers: [] }, "First bad layer: layers.17 (forward), produced NaN"],
    [{ verdict: "all_at_once" }, "All layers turned bad at once: no order can be told"],
    [{ verdict: "loss" }, "Every layer was finite; the loss produced NaN"],
    [{ verdict: "not_found" }, "No layer could be named"],
    [{ verdict: "not_found", trigger: "exception" }, "The run ended by an exception"],
    [{ verdict: "not_found", trigger: "command" }, "Tracing met no value that was not finite"],
    [{ verdict: "not_found", trigger: "command", tracing_steps: 50 }, "Tracing 50 attempts, as asked"],
  ])("%o", (change, words) => {
    expect(forensicsTitle(found(change))).toBe(words);
  });

  it("stands first where it says most, whatever came later", () => {
    const named = found({ step: 1, at: 1 });
    const backward = found({ step: 2, at: 2, first_forward: "", producers: [] });
    const ended = found({ step: 3, at: 3, verdict: "not_found", trigger: "exception" });
    const again = found({ step: 4, at: 4 });
    expect(mostTelling([named, backward, ended, again]).map((one) => one.step)).toEqual([1, 4, 2, 3]);
  });

  it("says until when attempts are traced", () => {
    expect(tracingWords(found(), 500)).toBe("");
    expect(tracingWords(found({ tracing_steps: 50 }), 415)).toContain(
      "is armed for 50 attempts, until step 460",
    );
    expect(tracingWords(found({ tracing_steps: 50 }), 460)).toContain("was armed");
  });
});

describe("non-finite reports", () => {
  const report = (change: Partial<NonFinite>): NonFinite => ({
    rank: 0,
    at: 1,
    step: 1,
    where: "gradient",
    scope: "",
    nan: 0,
    inf: 0,
    total: 1,
    layers: [],
    ...change,
  });

  it("say what, how many and where", () => {
    expect(nonFiniteWords(report({ nan: 3, inf: 1, total: 154, scope: "q1" }))).toBe(
      "NaN in 3, infinity in 1 of 154 tensors, in gradients of q1",
    );
    expect(nonFiniteWords(report({ nan: 1, where: "buffer" }))).toBe("NaN in 1, in buffers");
    expect(nonFiniteWords(report({ inf: 2, total: 9, where: "moment" }))).toBe(
      "infinity in 2 of 9 tensors, in the optimizer's moments",
    );
  });
});

describe("repaired numbers", () => {
  const series = (id: number, layer: string) =>
    ({ id, rank: 0, stage: "train", scope: "", kind: "repaired", layer }) as SeriesInfo;
  const source = (tails: Record<number, [number, number][]>, layers: string[]) => ({
    lastStep: 1000,
    seriesOf: () => layers.map((layer, i) => series(i + 1, layer)),
    tail: (id: number) => ({
      steps: Float64Array.from(tails[id]!, ([step]) => step),
      values: Float64Array.from(tails[id]!, ([, value]) => value),
    }),
  });

  it("are counted over the last 200 attempts, by guard", () => {
    const tails: Record<number, [number, number][]> = {
      1: [
        [800, 99],
        [801, 4],
        [950, 8],
        [1000, Number.NaN],
      ],
      2: [[999, 30]],
      3: [[999, 0]],
    };
    const counted = repairs(source(tails, ["finite_rows", "sanitize", "skip_nonfinite"]));
    expect(counted).toEqual([
      { guard: "sanitize", count: 30 },
      { guard: "finite_rows", count: 12 },
    ]);
    expect(repairWords(counted)).toBe("sanitize changed 30 values, finite_rows 12, in the last 200 attempts");
    expect(repairWords(counted.slice(1))).toBe("finite_rows changed 12 values in the last 200 attempts");
  });

  it("say nothing where nothing was changed of late", () => {
    expect(repairs(source({ 1: [[100, 5]] }, ["finite_rows"]))).toEqual([]);
    expect(repairWords([])).toBe("");
  });
});

describe("problems of the SDK", () => {
  const problem = (kind: string, count: number, rank = 0): Problem => ({
    rank,
    at: count,
    kind,
    count,
    text: "",
  });

  it("are the newest word on each kind of each rank", () => {
    const now = problemsNow([
      problem("probe q", 1),
      problem("disk", 1),
      problem("probe q", 3),
      problem("disk", 1, 2),
    ]);
    expect(now.map((one) => [one.kind, one.rank, one.count])).toEqual([
      ["probe q", 0, 3],
      ["disk", 0, 1],
      ["disk", 2, 1],
    ]);
  });

  it("and all other reports grow with live frames", () => {
    const reports = new Reports();
    reports.set({ marks: [], checkpoints: [], nonfinite: [], forensics: [found()], problems: [] });
    reports.take({ forensics: found({ step: 9 }) });
    reports.take({ problem: problem("disk", 1) });
    reports.take({ mark: {} });
    expect(reports.forensics.value.map((one) => one.step)).toEqual([410, 9]);
    expect(reports.problems.value).toHaveLength(1);
    expect(reports.nonfinite.value).toEqual([]);
  });
});

describe("tracing", () => {
  it("is no grave command, and says how many attempts", () => {
    expect(isGrave(draft("arm_tracing", { steps: 50 }, ""), new Map())).toBe(false);
    expect(draftLabel("arm_tracing", { steps: 50 }, "run")).toBe("Trace 50 attempts");
    expect(commandWords({ kind: "arm_tracing", args: { steps: 20 } } as Command)).toBe("Trace 20 attempts");
  });
});
