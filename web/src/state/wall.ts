import { computed, signal } from "@preact/signals";
import { getJson } from "../net/api";
import type { Frame } from "../net/frame";
import { live } from "../net/live";
import type { Incident, RunSummary } from "../net/types";
import { SEVERITY } from "../ui/severity";

/** Vital signs of a run; NaN where unknown. */
export type Vitals = Record<string, number>;

export interface WallRun {
  run: RunSummary;
  vitals: Vitals;
  spark: Float64Array;
  /** Browser milliseconds at which the vitals came. */
  at: number;
}

export const wallRuns = signal<Map<string, WallRun>>(new Map());
/** False until the first answer: an empty wall and an unknown wall look different. */
export const wallKnown = signal(false);
export const openIncidents = signal<Map<string, Incident>>(new Map());

export const attention = computed(() => {
  const count = { critical: 0, warning: 0, notice: 0 };
  for (const incident of openIncidents.value.values())
    if (incident.state === "firing") count[incident.severity]++;
  return count;
});

/** The next incident somebody should look at: worst first, then oldest. */
export const nextIncident = computed(() =>
  [...openIncidents.value.values()]
    .filter((incident) => incident.state === "firing")
    .sort((a, b) => SEVERITY[b.severity].rank - SEVERITY[a.severity].rank || a.opened_at - b.opened_at)
    .at(0),
);

export const liveCount = computed(
  () => [...wallRuns.value.values()].filter((one) => one.run.status !== "ended").length,
);

let signature = "";

export function readWall(frame: Frame, at: number): Map<string, WallRun> {
  const runs = (frame.header.runs ?? []) as (RunSummary & { row: number })[];
  const columns = (frame.header.columns ?? []) as string[];
  const sparks = (frame.header.sparks ?? {}) as Record<string, { n: number; offset: number }>;
  const rows = runs.reduce((most, run) => Math.max(most, run.row + 1), 0);
  const values = frame.block(Number(frame.header.vitals ?? 0), rows * columns.length);
  const found = new Map<string, WallRun>();
  for (const run of runs) {
    const vitals: Vitals = {};
    columns.forEach((name, i) => {
      vitals[name] = values[run.row * columns.length + i]!;
    });
    const spark = sparks[run.id];
    found.set(run.id, {
      run,
      vitals,
      spark: spark ? frame.block(spark.offset, spark.n) : new Float64Array(0),
      at,
    });
  }
  return found;
}

function onFrame(frame: Frame): void {
  if (frame.type === "wall") {
    wallRuns.value = readWall(frame, Date.now());
    wallKnown.value = true;
    const next = [...wallRuns.value.values()]
      .map(({ run }) => `${run.id}${run.incident?.id ?? ""}${run.incident?.state ?? ""}${run.severity ?? ""}`)
      .join();
    if (next !== signature) {
      signature = next;
      void loadOpenIncidents();
    }
  } else if (frame.type === "incident") {
    keepIncident(frame.header.incident as Incident);
  }
}

/** An incident as the server last told it: open ones are counted, resolved ones leave. */
export function keepIncident(incident: Incident): void {
  const next = new Map(openIncidents.value);
  if (incident.state === "resolved") next.delete(incident.id);
  else next.set(incident.id, incident);
  openIncidents.value = next;
}

async function loadOpenIncidents(): Promise<void> {
  try {
    const { incidents } = await getJson<{ incidents: Incident[] }>("/api/incidents?state=open");
    openIncidents.value = new Map(incidents.map((incident) => [incident.id, incident]));
  } catch {
    signature = "";
  }
}

/** Before the socket has said anything, and where it cannot be had, the list alone is shown. */
async function loadRuns(): Promise<void> {
  try {
    const { runs } = await getJson<{ runs: RunSummary[] }>("/api/runs?limit=50");
    if (!wallRuns.value.size)
      wallRuns.value = new Map(
        runs.map((run) => [run.id, { run, vitals: {}, spark: new Float64Array(0), at: Date.now() }]),
      );
    wallKnown.value = true;
  } catch {
    // The connection banner says why nothing is here.
  }
}

export function startWall(): void {
  live.listen(onFrame);
  live.watch({ topic: "wall" });
  live.onReturn(() => void loadOpenIncidents());
  live.start();
  void loadRuns();
  void loadOpenIncidents();
}

/** Seconds since the last sign of life, growing between two frames. */
export function ageOf(one: WallRun, nowSeconds: number): number {
  const base = one.vitals.age_s;
  if (base !== undefined && Number.isFinite(base)) return base + (Date.now() - one.at) / 1000;
  return nowSeconds - one.run.last_seen_at;
}
