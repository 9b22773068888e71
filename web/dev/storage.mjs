// How much room the made-up runs take, and how long their projects keep points.

const kept = new Map();
const BYTES_A_STEP = 40;

export function keepPoints(project, { days, default: by }) {
  if (by) kept.delete(project);
  else kept.set(project, days);
}

const sizeOf = (steps) => ({ points: steps * 12, dropped: 0, bytes: steps * BYTES_A_STEP });

export function storageOf(runs) {
  const projects = new Map();
  for (const run of runs) {
    const own = kept.has(run.project);
    const blank = { project: run.project, runs: 0, points: 0, dropped: 0, bytes: 0 };
    const one = projects.get(run.project) ?? { ...blank, days: kept.get(run.project) ?? null, own };
    const size = sizeOf(run.last_step);
    one.runs++;
    for (const name of Object.keys(size)) one[name] += size[name];
    projects.set(run.project, one);
  }
  return {
    default_days: null,
    database: { kind: "SQLite", bytes: 1_432_000_000, free_bytes: 64_000_000 },
    disk: { free_bytes: 412_000_000_000, total_bytes: 1_000_000_000_000 },
    backups: { count: 3, bytes: 3_900_000_000, newest_at: Date.now() / 1000 - 30_000 },
    removing: 1,
    measured_at: Date.now() / 1000,
    measuring: false,
    projects: [...projects.values()].sort((a, b) => (a.project < b.project ? -1 : 1)),
    largest: runs
      .map(({ id, name, project, status, started_at, last_step }) => {
        return { id, name, project, status, started_at, ...sizeOf(last_step) };
      })
      .sort((a, b) => b.bytes - a.bytes),
  };
}

export function storedOf(steps) {
  return { ...sizeOf(steps), series: 12, incidents: 1, marks: 2, commands: 0, pinned: false, days: null };
}
