import type { View } from "../state/address";
import type { RunStore } from "../state/run";

/** Steps on screen: the zoom, else the newest ones, else all. */
export function shownSteps(store: RunStore, view: View): [number, number] {
  const last = store.lastStep;
  if (view.zoom) return view.zoom;
  const first = view.follow ? Math.max(store.firstStep, last - view.follow) : store.firstStep;
  if (!(last > first)) return [Math.max(0, first - 1), Math.max(first, last) + 1];
  return [first, last + (last - first) * 0.005];
}

export interface Placing {
  toX: (step: number) => number;
  toStep: (x: number) => number;
}

/** Where a step stands on the x axis, and back. */
export function placing(store: RunStore, x: View["x"]): Placing {
  const same = (value: number) => value;
  if (x === "step" || store.timeline.size < 2) return { toX: same, toStep: same };
  const origin = x === "rel" ? (store.detail.peek()?.started_at ?? 0) : 0;
  return {
    toX: (step) => store.timeline.timeAt(step) - origin,
    toStep: (at) => store.timeline.stepAt(at + origin),
  };
}
