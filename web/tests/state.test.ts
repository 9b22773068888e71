import { describe, expect, it } from "vitest";
import type { RunDetail, RunSummary } from "../src/net/types";
import { roleCovers } from "../src/net/types";
import { formatView, parseView } from "../src/state/address";
import { boundsRefusal, draft, isGrave, lrChange } from "../src/state/commands";
import { appliedShare, clipShare, vitalsOf } from "../src/state/vitals";
import { compareRuns, isSick } from "../src/ui/severity";
import { statusText } from "../src/ui/status";
import { points, sourceWith } from "./help";

const run = (name: string, change: Partial<RunSummary> = {}) =>
  ({ id: name, name, status: "live", severity: null, ...change }) as RunSummary;

describe("order of the wall", () => {
  it("is severity, then silence, then name", () => {
    const runs = [
      run("b"),
      run("a"),
      run("lost", { status: "lost" }),
      run("z", { severity: "critical" }),
      run("n", { severity: "notice" }),
      run("y", { severity: "critical" }),
      run("w", { severity: "warning" }),
    ];
    expect(runs.sort(compareRuns).map((one) => one.name)).toEqual(["y", "z", "w", "n", "lost", "a", "b"]);
  });

  it("calls silent runs sick and ended ones not", () => {
    expect(isSick(run("a"))).toBe(false);
    expect(isSick(run("a", { status: "stalled" }))).toBe(true);
    expect(isSick(run("a", { status: "ended", severity: "critical" }))).toBe(false);
  });
});

describe("roles", () => {
  it("form a ladder beside ingest", () => {
    expect(roleCovers("control", "respond")).toBe(true);
    expect(roleCovers("view", "respond")).toBe(false);
    expect(roleCovers("ingest", "view")).toBe(false);
    expect(roleCovers(undefined, "view")).toBe(false);
  });
});

describe("view in the address", () => {
  it("goes there and back", () => {
    const search = "?x=rel&x0=10&x1=200&smooth=0&c.loss.log=0&c.custom-a.b.wide=1&g.system=1&g.weights=0";
    expect(formatView(parseView(search))).toBe(search);
    expect(formatView(parseView("?follow=500"))).toBe("?follow=500");
    expect(formatView(parseView(""))).toBe("");
  });

  it("ignores nonsense", () => {
    const view = parseView("?x=<script>&x0=5&x1=2&follow=-3");
    expect(view).toMatchObject({ x: "step", zoom: null, follow: 0, smooth: true });
  });
});

describe("commands", () => {
  const lrs = new Map([
    ["policy", 3e-4],
    ["policy#1", 3e-5],
    ["q1", 1e-3],
  ]);

  it("show before and after for each scope they touch, with groups in proportion", () => {
    expect(lrChange(lrs, { factor: 0.5, scope: "policy" }).map((one) => one.after)).toEqual([1.5e-4, 1.5e-5]);
    expect(lrChange(lrs, { lr: 6e-4, scope: "policy" }).map((one) => one.after)).toEqual([6e-4, 6e-5]);
    expect(lrChange(lrs, { factor: 0.1 })).toHaveLength(3);
  });

  it("are grave when they stop or raise", () => {
    expect(isGrave(draft("stop", {}, ""), lrs)).toBe(true);
    expect(isGrave(draft("scale_lr", { factor: 0.5 }, ""), lrs)).toBe(false);
    expect(isGrave(draft("scale_lr", { factor: 2 }, ""), lrs)).toBe(true);
    expect(isGrave(draft("set_lr", { lr: 5e-4 }, ""), lrs)).toBe(true);
    expect(isGrave(draft("set_lr", { lr: 1e-6 }, ""), lrs)).toBe(false);
    expect(isGrave(draft("checkpoint", {}, ""), lrs)).toBe(false);
  });

  it("are held within the run's bounds", () => {
    const detail = { control: { lr: ["1e-06", "0.01"] } } as unknown as RunDetail;
    expect(boundsRefusal(detail, draft("scale_lr", { factor: 0.5 }, ""), lrs)).toBe("");
    expect(boundsRefusal(detail, draft("scale_lr", { factor: 1e-3 }, ""), lrs)).toContain("1e-06");
  });

  it("have one key each", () => {
    expect(draft("stop", {}, "").key).not.toBe(draft("stop", {}, "").key);
  });
});

describe("vital signs", () => {
  const source = sourceWith([
    ["loss", "", [1, Number.NaN]],
    ["grad_norm", "", [0.5, 2, Number.POSITIVE_INFINITY, 0.1]],
    ["clip_threshold", "", [1, 1, 1, 1]],
    ["update_applied", "", [1, 1, 0, 0]],
  ]);
  const vital = {
    ...source,
    wall: {},
    tail: (id: number, n: number) => {
      const raw = [
        [1, Number.NaN],
        [0.5, 2, Number.POSITIVE_INFINITY, 0.1],
        [1, 1, 1, 1],
        [1, 1, 0, 0],
      ][id - 1]!;
      return { steps: points(raw).last, values: Float64Array.from(raw.slice(-n)) };
    },
  };

  it("come from the newest raw points", () => {
    expect(clipShare(vital)).toBe(0.5);
    expect(appliedShare(vital)).toBe(0.5);
    expect(vitalsOf(vital)[0]).toMatchObject({ name: "loss", value: "NaN", standout: true });
  });

  it("call nothing NaN that was never sent", () => {
    const none = { ...vital, seriesOf: () => [], wall: { loss: Number.NaN, loss_trend: Number.NaN } };
    expect(vitalsOf(none)[0]).toMatchObject({ name: "loss", value: "—", standout: false });
  });

  it("trust the wall where it knows", () => {
    expect(appliedShare({ ...vital, wall: { applied_share: 0.97 } })).toBe(0.97);
  });
});

describe("how a run ended", () => {
  it("has no colon behind an exception without a text", () => {
    const ended = (end_reason: string) =>
      statusText(run("r", { status: "ended", end_reason, exit_code: 1 }), 0).text;
    expect(ended("KeyboardInterrupt: ")).toBe("Exited (1): KeyboardInterrupt");
    expect(ended("ValueError: out of data")).toBe("Exited (1): ValueError: out of data");
  });
});
