import { computed, signal } from "@preact/signals";
import { getJson, postJson } from "../net/api";
import { signedOut } from "../net/signals";
import { type Role, roleCovers, type Session } from "../net/types";

export const session = signal<Session | null>(null);

export const mayRespond = computed(() => roleCovers(session.value?.role, "respond"));
export const isAdmin = computed(() => roleCovers(session.value?.role, "admin"));
export const mayControl = computed(() => roleCovers(session.value?.role, "control"));

export async function loadSession(): Promise<void> {
  try {
    session.value = await getJson<Session>("/api/session");
    signedOut.value = false;
  } catch {
    // A 401 has already set `signedOut`; anything else shows as a lost connection.
  }
}

export async function signIn(code: string): Promise<void> {
  await postJson<{ role: Role; actor: string }>("/api/login", { code });
  signedOut.value = false;
  await loadSession();
}
