import { describe, expect, it } from "vitest";
import type { RankInfo } from "../src/net/types";
import { cellOf, lags, RANKS_SHOWN, stripOf } from "../src/state/ranks";

const one = (change: Partial<RankInfo> = {}): RankInfo => ({
  rank: 0,
  host: "a1",
  state: "connected",
  last_seen_at: 1,
  last_step: 1000,
  lag: 0,
  bad_step: null,
  bad_where: "",
  first_bad: false,
  ...change,
});

describe("a rank in the strip", () => {
  it.each<[Partial<RankInfo>, string, string]>([
    [{}, "", "quiet"],
    [{ state: "ended" }, "ended", "quiet"],
    [{ state: "lost" }, "no contact", "warning"],
    [{ state: "missing", host: "", last_step: -1 }, "never reported", "warning"],
    [{ last_step: 800, lag: 200 }, "200 behind", "warning"],
    [{ first_bad: true, bad_step: 7, bad_where: "loss" }, "first bad, step 7", "bad"],
    [{ bad_step: 8, bad_where: "gradient" }, "", "quiet"],
  ])("%o says %s", (change, word, tone) => {
    const cell = cellOf(one(change));
    expect(cell.word).toBe(word);
    expect(cell.tone).toBe(tone);
    expect(cell.tone === "quiet").toBe(cell.mark === "");
  });

  it("tells the rest in its title", () => {
    const cell = cellOf(one({ rank: 3, last_step: 900, bad_step: 8, bad_where: "gradient" }));
    expect(cell.title).toBe("Rank 3: a1, step 900, not finite since step 8 (gradient)");
  });

  it("does not call a few attempts a lag", () => {
    expect(lags(one({ last_step: 990, lag: 10 }))).toBe(false);
    expect(lags(one({ last_step: 100_000, lag: 1500 }))).toBe(false);
    expect(lags(one({ last_step: 100_000, lag: 2500 }))).toBe(true);
  });
});

describe("the strip", () => {
  it("shows every rank of a small training", () => {
    expect(stripOf([one(), one({ rank: 1 })])).toMatchObject({ cells: [{ rank: 0 }, { rank: 1 }], quiet: 0 });
  });

  it("shows of a large one only who stands out", () => {
    const many = Array.from({ length: 512 }, (_, rank) =>
      one({ rank, state: rank === 300 ? "lost" : "connected" }),
    );
    const { cells, quiet } = stripOf(many);
    expect(cells.map((cell) => cell.rank)).toEqual([300]);
    expect(quiet).toBe(511);
    const dark = stripOf(many.map((rank) => ({ ...rank, state: "lost" as const })));
    expect(dark.cells.length).toBe(RANKS_SHOWN);
  });
});
