import { linePanel } from "./lines";
import type { Panel } from "./panel";

/** Reinforcement learning beside its critics. */
export const policy: Panel[] = [
  linePanel({ id: "reward", title: "Reward", kinds: { reward: "reward" } }),
  linePanel({ id: "entropy", title: "Entropy", unit: "nat", kinds: { entropy: "entropy" } }),
  linePanel({ id: "kl", title: "KL divergence", unit: "nat", kinds: { kl: "KL divergence" }, log: true }),
  linePanel({
    id: "explained_variance",
    title: "Explained variance",
    unit: "1 is best, below 0 is useless",
    kinds: { explained_variance: "explained variance" },
    levels: [{ y: 0, label: "0" }],
  }),
  linePanel({
    id: "reward_abs_max",
    title: "Largest reward, absolute",
    kinds: { reward_abs_max: "largest reward" },
    log: true,
  }),
];
