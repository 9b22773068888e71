import { signal } from "@preact/signals";
import type { Figure } from "./figure";

/** The step under the pointer, the same on every chart; null away from the charts. */
export const cursor = signal<number | null>(null);
/** True while somebody drags on a chart: redraws wait, so that the drag is not torn. */
export const dragging = signal(false);
/** Row under the pointer of charts with layers. */
export const cursorRow = new WeakMap<Figure, number | null>();
