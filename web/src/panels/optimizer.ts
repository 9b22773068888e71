import { layerLinesPanel, linePanel } from "./lines";
import type { Panel } from "./panel";

/** What the optimizer holds: its moments, how surprised it is, and the scale of its gradients. */
export const optimizer: Panel[] = [
  linePanel({
    id: "adam_rms",
    title: "Gradient over its second moment",
    unit: "RMS",
    kinds: { adam_rms: "all" },
    log: true,
    // Wortsman et al. 2023, arXiv:2304.13013: loss spikes follow an RMS above about 2.3.
    levels: [{ y: 2.3, label: "2.3" }],
  }),
  layerLinesPanel({
    id: "adam-rms-layer",
    title: "Gradient over its second moment, by layer",
    kind: "adam_rms_layer",
    log: true,
    levels: [{ y: 2.3, label: "2.3" }],
    pick: "largest",
  }),
  linePanel({
    id: "moment_norm",
    title: "Optimizer state",
    unit: "L2 norm",
    kinds: { moment_norm: "state" },
    log: true,
  }),
  linePanel({ id: "loss_scale", title: "Loss scale", kinds: { loss_scale: "loss scale" }, log: true }),
  linePanel({ id: "lr_factor", title: "Factor on the schedule", kinds: { lr_factor: "factor" }, log: true }),
];
