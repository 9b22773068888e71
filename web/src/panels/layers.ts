import { heatPanel } from "./heat";

/** Gradient of each layer over the steps. */
export const layers = heatPanel({
  id: "layers",
  title: "Gradient by layer",
  unit: "log10 of the norm, layers in forward order",
  kind: "grad_norm_layer",
  word: "norm",
  scale: "log",
});
