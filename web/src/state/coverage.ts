import type { RuleCoverage } from "../net/rules";

export interface RuleState {
  rule: string;
  ran: boolean;
  /** Most of any scope. */
  records: number;
  why: string;
}

export interface RulesSummary {
  ran: RuleState[];
  /** By reason, the commonest first. */
  not: { why: string; rules: string[] }[];
}

/** One line a rule: it ran if it ran in any scope. */
export function rulesSummary(rows: RuleCoverage[]): RulesSummary {
  const states = new Map<string, RuleState>();
  for (const row of rows) {
    const known = states.get(row.rule);
    if (!known) states.set(row.rule, { ...row });
    else if (row.ran) {
      known.ran = true;
      known.records = Math.max(known.records, row.records);
    }
  }
  const reasons = new Map<string, string[]>();
  for (const one of states.values())
    if (!one.ran) reasons.set(one.why, [...(reasons.get(one.why) ?? []), one.rule]);
  return {
    ran: [...states.values()].filter((one) => one.ran),
    not: [...reasons].map(([why, rules]) => ({ why, rules })).sort((a, b) => b.rules.length - a.rules.length),
  };
}

/** `24 of 32 ran`, `24 of 30 ran, 2 off`. */
export function summaryWords(summary: RulesSummary): string {
  const off = summary.not.find((one) => one.why === OFF)?.rules.length ?? 0;
  const not = summary.not.reduce((sum, one) => sum + one.rules.length, 0);
  return `${summary.ran.length} of ${summary.ran.length + not} ran${off ? `, ${off} off` : ""}`;
}

/** The server's word for a rule that the limits switch off. */
export const OFF = "switched off by the limits";
