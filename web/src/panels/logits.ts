import { layerLinesPanel, linePanel } from "./lines";
import type { Panel } from "./panel";

/** Logits grow before softmax saturates. */
export const logits: Panel[] = [
  linePanel({ id: "logit_max", title: "Largest logit, absolute", kinds: { logit_max: "logit" }, log: true }),
  layerLinesPanel({
    id: "attention-logit-max",
    title: "Largest attention logit, by layer",
    kind: "attention_logit_max_layer",
    log: true,
    // Wortsman et al. 2023, arXiv:2309.14322: runs whose largest logit passed about 1e4 diverged.
    levels: [{ y: 1e4, label: "1e4" }],
    pick: "largest",
  }),
  linePanel({
    id: "margins",
    title: "Distance from the edge of log, sqrt, division, exp",
    unit: "of the nearest argument",
    kinds: { domain_margin: "margin" },
    log: true,
    smooth: false,
  }),
];
