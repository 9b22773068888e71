import type { RunDetail } from "../net/types";
import { gradNorm } from "./gradNorm";
import { layers } from "./layers";
import { learningRate } from "./learningRate";
import { loss } from "./loss";
import { otherPanels } from "./other";
import type { Panel } from "./panel";
import { q } from "./q";
import { updates } from "./updates";

/** The charts of the run page, in their order. A new panel is one file and one line here. */
const PANELS: Panel[] = [loss, gradNorm, updates, learningRate, q, layers];

export function panelsOf(detail: RunDetail): Panel[] {
  return [...PANELS, ...otherPanels(detail)];
}
