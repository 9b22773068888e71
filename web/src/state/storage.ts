import { signal } from "@preact/signals";
import { deleteJson, errorText, getJson, putJson } from "../net/api";
import type { StorageAnswer } from "../net/storage";

export const storage = signal<StorageAnswer | null>(null);
export const storageFailure = signal("");
/** Name of the run that was deleted last from this browser: said on the page one comes to. */
export const lastDeleted = signal("");

const MEASURING_MS = 1000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Asked again while the server still sums up. */
export async function loadStorage(): Promise<void> {
  clearTimeout(timer);
  try {
    storage.value = await getJson<StorageAnswer>("/api/storage");
    storageFailure.value = "";
  } catch (error) {
    storageFailure.value = errorText(error);
    return;
  }
  if (storage.value.measuring) timer = setTimeout(() => void loadStorage(), MEASURING_MS);
}

export function stopStorage(): void {
  clearTimeout(timer);
}

/** `default`: as the server says; null: for ever. */
export type Kept = number | null | "default";

export async function keepPoints(project: string, kept: Kept): Promise<void> {
  const path = `/api/retention?project=${encodeURIComponent(project)}`;
  await putJson(path, kept === "default" ? { default: true } : { days: kept });
  await loadStorage();
}

export interface Concerned {
  runs: number;
  whole: number;
}

export function preview(project: string, days: number): Promise<Concerned> {
  return getJson<Concerned>(`/api/retention?project=${encodeURIComponent(project)}&days=${days}`);
}

export async function deleteRun(id: string, name: string): Promise<void> {
  await deleteJson(`/api/runs/${encodeURIComponent(id)}`);
  lastDeleted.value = name;
}

export async function pinRun(id: string, pinned: boolean): Promise<void> {
  const path = `/api/runs/${encodeURIComponent(id)}/pin`;
  await (pinned ? putJson(path, {}) : deleteJson(path));
}

/** `for ever`, `30 days`. */
export function keptWords(days: number | null): string {
  if (days === null) return "for ever";
  return days === 1 ? "1 day" : `${days} days`;
}

/** What a shorter retention takes, before it is set. */
export function concernedWords({ runs, whole }: Concerned, days: number): string {
  const touched = runs - whole;
  const kept = whole
    ? ` ${whole === 1 ? "1 run that is" : `${whole} runs that are`} pinned or ${whole === 1 ? "has" : "have"} an open incident ${whole === 1 ? "stays" : "stay"} whole.`
    : "";
  if (!touched) return `No run has points older than ${keptWords(days)} to lose.${kept}`;
  const which = touched === 1 ? "1 run" : `${touched} runs`;
  return `Within the hour ${which} will lose the points older than ${keptWords(days)}; summaries stay, so charts keep their shape.${kept} This cannot be undone.`;
}
