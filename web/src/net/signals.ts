import { signal } from "@preact/signals";

/** True once the server answered 401: every page then shows how to sign in. */
export const signedOut = signal(false);

export interface Connection {
  state: "connecting" | "live" | "lost";
  /** How many attempts since the connection was lost. */
  attempts: number;
}

export const connection = signal<Connection>({ state: "connecting", attempts: 0 });

/** Browser milliseconds of the last frame, 0 before the first; apart from `connection`, which changes rarely. */
export const lastFrameAt = signal(0);

/** Version the server named first, and whether it has named another one since: then this page is old. */
export const serverVersion = signal("");
export const outdated = signal(false);

/** Server clock minus browser clock in seconds. */
export const clockOffset = signal(0);
