import type { RunStatus } from "./types";

/** Shapes of the routes of storage. Points that are in no chunk yet are not counted. */

export interface Size {
  points: number;
  /** Points of which only summaries are left. */
  dropped: number;
  bytes: number;
}

export interface ProjectSize extends Size {
  project: string;
  runs: number;
  /** Points are kept so long; null: for ever. */
  days: number | null;
  /** False: by the server's default. */
  own: boolean;
}

export interface LargeRun extends Size {
  id: string;
  name: string;
  project: string;
  status: RunStatus;
  started_at: number;
}

export interface StorageAnswer {
  default_days: number | null;
  database: { kind: string; bytes: number; free_bytes: number };
  disk: { free_bytes: number; total_bytes: number } | null;
  backups: { count: number; bytes: number; newest_at: number | null } | null;
  /** Deleted runs of which rows are left. */
  removing: number;
  measured_at: number | null;
  measuring: boolean;
  projects: ProjectSize[];
  largest: LargeRun[];
}

export interface RunStorage extends Size {
  series: number;
  incidents: number;
  marks: number;
  commands: number;
  pinned: boolean;
  days: number | null;
}
