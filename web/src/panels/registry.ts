import type { RunDetail } from "../net/types";
import { activations } from "./activations";
import { buffers } from "./buffers";
import { gradNorm } from "./gradNorm";
import { layers } from "./layers";
import { learningRate } from "./learningRate";
import { logits } from "./logits";
import { loss } from "./loss";
import { optimizer } from "./optimizer";
import { loggedPanels, otherPanels } from "./other";
import type { Panel } from "./panel";
import { policy } from "./policy";
import { q, qGap } from "./q";
import { system } from "./system";
import { updates } from "./updates";
import { weights } from "./weights";

/** Charts that belong together; only what is open is drawn. */
export interface Group {
  id: string;
  /** Empty for the charts that are always there. */
  title: string;
  /** Open unless the reader says otherwise. */
  open: boolean;
  panels: Panel[];
}

/** The charts of the run page, in their order. A new panel is one file and one line here. */
const MAIN: Panel[] = [loss, gradNorm, updates, learningRate, q, qGap, layers];
const GROUPS: Group[] = [
  { id: "policy", title: "Policy and reward", open: true, panels: policy },
  { id: "weights", title: "Weights and updates", open: true, panels: weights },
  { id: "optimizer", title: "Optimizer", open: false, panels: optimizer },
  { id: "activations", title: "Activations", open: false, panels: activations },
  { id: "numerics", title: "Logits, buffers and repairs", open: false, panels: [...logits, ...buffers] },
  { id: "system", title: "System", open: false, panels: system },
];

/** Kinds with a panel of their own, or that are no curve. */
const TAKEN = new Set([
  "task",
  "custom",
  ...[...MAIN, ...GROUPS.flatMap((group) => group.panels)].flatMap((panel) => panel.kinds),
]);

export function groupsOf(detail: RunDetail): Group[] {
  return [
    { id: "main", title: "", open: true, panels: MAIN },
    { id: "logged", title: "Logged by the script", open: true, panels: loggedPanels(detail) },
    ...GROUPS,
    { id: "more", title: "More", open: false, panels: otherPanels(detail, TAKEN) },
  ];
}

export function panelsOf(detail: RunDetail): Panel[] {
  return groupsOf(detail).flatMap((group) => group.panels);
}
