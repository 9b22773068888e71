import { computed, signal } from "@preact/signals";
import { deleteJson, getJson, postJson } from "../net/api";
import type { Backtest, TriedRun } from "../net/rules";

/** The server's one back-test: asked for often while it runs, and kept when one comes back to the page. */
const LOOK_MS = 400;

export const backtest = signal<Backtest | null>(null);
export const running = computed(() => backtest.value?.state === "running");

let timer: ReturnType<typeof setTimeout> | undefined;

function look(): void {
  clearTimeout(timer);
  if (running.peek()) timer = setTimeout(() => void loadBacktest(), LOOK_MS);
}

export async function loadBacktest(): Promise<void> {
  try {
    backtest.value = (await getJson<{ backtest: Backtest | null }>("/api/rules/backtest")).backtest;
  } catch {
    // The connection banner says why; it is asked for again below.
  }
  look();
}

export async function tryRules(project: string, text: string, last: number): Promise<void> {
  const path = `/api/rules/backtest?project=${encodeURIComponent(project)}`;
  backtest.value = await postJson<Backtest>(path, { text, last });
  look();
}

export async function cancelBacktest(): Promise<void> {
  const job = backtest.peek();
  if (!job) return;
  backtest.value = await deleteJson<Backtest>(`/api/rules/backtest/${encodeURIComponent(job.id)}`);
  look();
}

/** How much of it is done, 0 to 1. */
export function doneShare(job: Backtest): number {
  if (job.total === null) return 0;
  return job.total ? Math.min(1, (job.runs.length + job.share) / job.total) : 1;
}

/** `2 new, 1 goes away, 3 as before`. */
export function changeWords(runs: TriedRun[]): string {
  const count = { new: 0, gone: 0, same: 0, unknown: 0 };
  for (const run of runs) for (const one of run.incidents) count[one.state]++;
  const words = [
    count.new ? `${count.new} new` : "",
    count.gone ? `${count.gone} ${count.gone === 1 ? "goes" : "go"} away` : "",
    count.same ? `${count.same} as before` : "",
    count.unknown ? `${count.unknown} cannot be told` : "",
  ];
  return words.filter(Boolean).join(", ");
}
