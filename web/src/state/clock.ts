import { signal } from "@preact/signals";
import { clockOffset } from "../net/signals";

/** Server seconds, ticking once a second: ages are shown against the server's clock, not the viewer's. */
export const now = signal(Date.now() / 1000);

export function serverNow(): number {
  return Date.now() / 1000 + clockOffset.peek();
}

export function startClock(): void {
  setInterval(() => {
    now.value = serverNow();
  }, 1000);
}
