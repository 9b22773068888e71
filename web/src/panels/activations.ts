import { heatPanel } from "./heat";
import type { Panel } from "./panel";

/** Units that no longer take part. */
export const activations: Panel[] = [
  heatPanel({
    id: "dead",
    title: "Dead units by layer",
    unit: "share that is always zero",
    kind: "dead_fraction_layer",
    word: "share",
    scale: "share",
    height: 240,
  }),
  heatPanel({
    id: "unreached",
    title: "Weights without a gradient by layer",
    unit: "share with a gradient of exactly 0",
    kind: "unreached_fraction_layer",
    word: "share",
    scale: "share",
    height: 240,
  }),
  heatPanel({
    id: "saturated",
    title: "Saturated units by layer",
    unit: "share at the end of its range",
    kind: "saturated_fraction_layer",
    word: "share",
    scale: "share",
    height: 240,
  }),
];
