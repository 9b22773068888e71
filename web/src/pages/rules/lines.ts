import { signal } from "@preact/signals";

/** Line of the editor that somebody asked for; 0 once it is shown. */
export const lookAt = signal(0);

/** Where a line begins; counts from 1. */
export function lineStart(text: string, line: number): number {
  let start = 0;
  for (let i = 1; i < line; i++) {
    const end = text.indexOf("\n", start);
    if (end < 0) return start;
    start = end + 1;
  }
  return start;
}
