import { describe, expect, it } from "vitest";
import type { Backtest, Rule, RuleCoverage, TriedRun } from "../src/net/rules";
import { lineStart } from "../src/pages/rules/lines";
import { limitsLink } from "../src/pages/run/RulesRan";
import { changeWords, doneShare } from "../src/state/backtest";
import { OFF, rulesSummary, summaryWords } from "../src/state/coverage";
import { effective } from "../src/state/rules";
import { withLimit } from "../src/state/toml";

describe("a limit in a person's text", () => {
  const text =
    '# ours\n[skip_streak]\nwarning = 3  # our loader never skips\n\n["plateau"]\nenabled = false\n';

  it("is changed in its place, with the note beside it", () => {
    expect(withLimit(text, "skip_streak", "warning", "7")).toBe(text.replace("= 3", "= 7"));
    expect(withLimit(text, "plateau", "enabled", "true")).toBe(text.replace("false", "true"));
  });

  it("is added to its table, or with a table of its own", () => {
    expect(withLimit(text, "skip_streak", "critical", "30")).toContain("skips\ncritical = 30\n\n[");
    expect(withLimit(text, "stall", "enabled", "false")).toBe(`${text}\n[stall]\nenabled = false\n`);
    expect(withLimit("", "stall", "enabled", "false")).toBe("[stall]\nenabled = false\n");
    expect(withLimit("[stall]", "stall", "times", "4")).toBe("[stall]\ntimes = 4\n");
  });

  it("takes its table along when it was the last, unless somebody wrote a note there", () => {
    expect(withLimit(text, "plateau", "enabled", null)).toBe(text.slice(0, text.indexOf('\n["plateau"')));
    const noted = "[stall]\n# slow disks\ntimes = 4\n";
    expect(withLimit(noted, "stall", "times", null)).toBe("[stall]\n# slow disks\n");
    expect(withLimit("[stall]\ntimes = 4\n\n[plateau]\nblur = 1\n", "stall", "times", null)).toBe(
      "[plateau]\nblur = 1\n",
    );
    expect(withLimit(text, "stall", "times", null)).toBe(text);
  });

  it("is found where it is written with a dot", () => {
    const dotted = "stall.times = 4 # slow\n\n[plateau]\nblur = 1\n";
    expect(withLimit(dotted, "stall", "times", "5")).toBe(dotted.replace("4", "5"));
    expect(withLimit(dotted, "stall", "enabled", "false")).toContain("# slow\nstall.enabled = false\n");
    expect(withLimit("stall.times = 4\n", "stall", "times", null)).toBe("");
  });

  it("of another table with the same key is left alone", () => {
    const two = "[plateau]\nenabled = false\n[stall]\nenabled = false\n";
    expect(withLimit(two, "stall", "enabled", "true")).toBe(
      "[plateau]\nenabled = false\n[stall]\nenabled = true\n",
    );
  });
});

describe("what counts", () => {
  const rule: Rule = {
    name: "stall",
    group: "Other",
    title: "Silence",
    text: "",
    limits: [{ name: "times", value: "10.0", source: "" }],
  };
  it("is what the project says, else every project, else the package", () => {
    const below = { stall: { times: "20", enabled: "false" } };
    expect(effective(rule, "times", {}, {}, "p")).toEqual({ value: "10.0", from: "packaged" });
    expect(effective(rule, "times", below, {}, "p")).toEqual({ value: "20", from: "every" });
    expect(effective(rule, "times", below, { stall: { times: "30" } }, "p")).toEqual({
      value: "30",
      from: "project",
    });
    expect(effective(rule, "enabled", {}, {}, "p").value).toBe("true");
    expect(effective(rule, "enabled", below, {}, "p").value).toBe("false");
  });
});

describe("lines of the editor", () => {
  it("begin where the server counts them", () => {
    expect([1, 2, 3, 9].map((line) => lineStart("a\nbb\nc", line))).toEqual([0, 2, 5, 5]);
  });
});

const run = (states: string[]): TriedRun =>
  ({ incidents: states.map((state) => ({ state })), fired: 0 }) as unknown as TriedRun;

describe("a back-test", () => {
  it("says what is new and what goes away", () => {
    expect(changeWords([run(["new", "gone"]), run(["same", "gone", "unknown"])])).toBe(
      "1 new, 2 go away, 1 as before, 1 cannot be told",
    );
    expect(changeWords([run([])])).toBe("");
  });

  it("knows how far it is", () => {
    const job = { total: null, runs: [], share: 0 } as unknown as Backtest;
    expect(doneShare(job)).toBe(0);
    expect(doneShare({ ...job, total: 4, runs: [run([])], share: 0.5 })).toBe(0.375);
    expect(doneShare({ ...job, total: 0 })).toBe(1);
  });
});

describe("which rules judged a run", () => {
  const row = (rule: string, scope: string, records: number, why = ""): RuleCoverage => ({
    rule,
    scope,
    ran: records > 0,
    records,
    why,
  });
  it("counts a rule that ran in any scope, and tells reasons once", () => {
    const summary = rulesSummary([
      row("nonfinite", "q1", 0, "no loss sent"),
      row("nonfinite", "q2", 50),
      row("plateau", "q1", 0, OFF),
      row("loss_scale", "q1", 0, "no loss_scale sent"),
      row("adam_rms", "q1", 0, "no adam_rms sent"),
      row("grad_spike", "q1", 0, "no adam_rms sent"),
    ]);
    expect(summary.ran.map((one) => [one.rule, one.records])).toEqual([["nonfinite", 50]]);
    expect(summary.not[0]).toEqual({ why: "no adam_rms sent", rules: ["adam_rms", "grad_spike"] });
    expect(summaryWords(summary)).toBe("1 of 5 ran, 1 off");
  });

  it("leads to the limits of the run's project", () => {
    expect(limitsLink("stall", "a b")).toBe("/settings/rules?project=a+b&rule=stall");
    expect(limitsLink("stall", undefined)).toBe("/settings/rules?rule=stall");
  });
});
