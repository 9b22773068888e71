import { layerLinesPanel, linePanel } from "./lines";
import type { Panel } from "./panel";

/** Numbers beside the weights: buffers, repairs, values that were not finite. */
export const buffers: Panel[] = [
  layerLinesPanel({
    id: "buffers",
    title: "Largest value of a buffer",
    unit: "absolute",
    kind: "buffer_abs_max_layer",
    log: true,
    pick: "largest",
  }),
  linePanel({
    id: "repaired",
    title: "Values that guards changed",
    unit: "per attempt",
    kinds: { repaired: "guard" },
    smooth: false,
  }),
  linePanel({
    id: "nonfinite",
    title: "Non-finite values met",
    kinds: { nonfinite: "values" },
    smooth: false,
  }),
];
