import { describe, expect, it } from "vitest";
import type { RunStorage } from "../src/net/storage";
import { concernedWords, keptWords } from "../src/state/storage";
import { lostWords } from "../src/ui/DeleteRun";

const size: RunStorage = {
  points: 12_345,
  dropped: 0,
  bytes: 1_258_291,
  series: 12,
  incidents: 1,
  marks: 0,
  commands: 3,
  pinned: false,
  days: null,
};

describe("what a deletion takes", () => {
  it("is said in numbers, without what there is none of", () => {
    expect(lostWords(size)).toBe("12\u2009345 points in 12 series, 1 incident, 3 commands (1.20 MiB).");
    const dropped = { ...size, incidents: 0, commands: 0, dropped: 5000 };
    expect(lostWords(dropped)).toContain("12 series, summaries of 5\u2009000 more (");
    expect(lostWords({ ...size, points: 0 })).toMatch(/^every point of 12 series/);
  });
});

describe("how long points are kept", () => {
  it("is said in words", () => {
    expect([null, 1, 0.5, 30].map(keptWords)).toEqual(["for ever", "1 day", "0.5 days", "30 days"]);
  });

  it("says what a shorter time takes before it is set", () => {
    expect(concernedWords({ runs: 0, whole: 0 }, 30)).toBe("No run has points older than 30 days to lose.");
    expect(concernedWords({ runs: 3, whole: 1 }, 30)).toBe(
      "Within the hour 2 runs will lose the points older than 30 days; summaries stay, so charts keep their " +
        "shape. 1 run that is pinned or has an open incident stays whole. This cannot be undone.",
    );
    expect(concernedWords({ runs: 2, whole: 2 }, 1)).toBe(
      "No run has points older than 1 day to lose. 2 runs that are pinned or have an open incident stay whole.",
    );
  });
});
