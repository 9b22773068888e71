import { heatPanel } from "./heat";
import { layerLinesPanel, linePanel } from "./lines";
import type { Panel } from "./panel";

/** How far each step moves the weights, and how large they have become. */
export const weights: Panel[] = [
  layerLinesPanel({
    id: "update-ratio",
    title: "Update over weight, by layer",
    unit: "about 1e-3 is usual",
    kind: "update_ratio_layer",
    log: true,
    // CS231n, neural networks part 3: the ratio should be somewhere around 1e-3.
    levels: [{ y: 1e-3, label: "1e-3" }],
    pick: "extremes",
  }),
  linePanel({
    id: "update-norm",
    title: "Size of the update",
    unit: "L2 norm",
    kinds: { update_norm: "update" },
    log: true,
  }),
  linePanel({ id: "param_norm", title: "Parameter norm", kinds: { param_norm: "parameters" }, log: true }),
  layerLinesPanel({
    id: "param-norm-layer",
    title: "Parameter norm by layer",
    kind: "param_norm_layer",
    log: true,
    pick: "largest",
  }),
  layerLinesPanel({
    id: "update-norm-layer",
    title: "Size of the update, by layer",
    unit: "L2 norm",
    kind: "update_norm_layer",
    log: true,
    pick: "largest",
  }),
  heatPanel({
    id: "update-ratio-layers",
    title: "Update over weight, all layers",
    unit: "log10 of the ratio",
    kind: "update_ratio_layer",
    word: "ratio",
    scale: "log",
    low: -6,
    ends: [0, 3, 6],
    atLeast: 7,
    height: 260,
  }),
];
