import type { RankInfo } from "../net/types";
import { formatStep } from "../ui/format";

/** A strip longer than this shows only the ranks that stand out. */
export const RANKS_SHOWN = 16;

/** Reports come at their own times, so a few attempts apart means nothing. */
export function lags(rank: RankInfo): boolean {
  return rank.state === "connected" && rank.lag > Math.max(20, 0.02 * (rank.last_step + rank.lag));
}

export interface RankCell {
  rank: number;
  /** A shape as well as a word: colour alone says nothing. */
  mark: string;
  word: string;
  tone: "bad" | "warning" | "quiet";
  title: string;
}

/** What one rank's place in the strip says. */
export function cellOf(rank: RankInfo): RankCell {
  const bad =
    rank.bad_step === null ? "" : `not finite since step ${formatStep(rank.bad_step)} (${rank.bad_where})`;
  const lost = rank.state === "lost" || rank.state === "missing";
  const words: Record<RankInfo["state"], string> = {
    connected: lags(rank) ? `${formatStep(rank.lag)} behind` : "",
    ended: "ended",
    lost: "no contact",
    missing: "never reported",
  };
  const word = rank.first_bad ? `first bad, step ${formatStep(rank.bad_step)}` : words[rank.state];
  const details = [
    rank.host,
    rank.last_step >= 0 ? `step ${formatStep(rank.last_step)}` : "",
    words[rank.state],
    bad,
  ];
  return {
    rank: rank.rank,
    mark: rank.first_bad ? "⬢" : lost ? "◌" : lags(rank) ? "▲" : "",
    word,
    tone: rank.first_bad ? "bad" : lost || lags(rank) ? "warning" : "quiet",
    title: `Rank ${rank.rank}: ${details.filter(Boolean).join(", ")}`,
  };
}

/** The ranks to draw, and how many quiet ones are left out. */
export function stripOf(ranks: RankInfo[]): { cells: RankCell[]; quiet: number } {
  const cells = ranks.map(cellOf);
  if (cells.length <= RANKS_SHOWN) return { cells, quiet: 0 };
  const loud = cells.filter((one) => one.tone !== "quiet").slice(0, RANKS_SHOWN);
  return { cells: loud, quiet: cells.length - loud.length };
}
