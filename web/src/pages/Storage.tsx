import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { LargeRun, StorageAnswer } from "../net/storage";
import { isAdmin } from "../state/session";
import { lastDeleted, loadStorage, stopStorage, storage, storageFailure } from "../state/storage";
import { subject } from "../state/title";
import { Deleted, DeleteRun } from "../ui/DeleteRun";
import { formatBytes, formatDateTime, formatStep } from "../ui/format";
import { Projects } from "./storage/Projects";

/** How much room there is, what takes it, and how long every project keeps its points. */
export function Storage() {
  subject.value = "Storage";
  useEffect(() => {
    void loadStorage();
    return () => {
      stopStorage();
      lastDeleted.value = "";
    };
  }, []);
  const known = storage.value;
  return (
    <div class="storage">
      <h1>Storage</h1>
      <Deleted name={lastDeleted.value} />
      {storageFailure.value ? <p role="alert">{storageFailure.value}</p> : null}
      {known ? (
        <>
          <Room known={known} />
          <Projects known={known} />
          <Largest runs={known.largest} measuring={known.measuring} />
        </>
      ) : storageFailure.value ? null : (
        <p class="secondary">Loading…</p>
      )}
    </div>
  );
}

function Room({ known }: { known: StorageAnswer }) {
  const { database, disk, backups } = known;
  return (
    <>
      <dl class="vitals" data-testid="storage-room">
        <div class="vital">
          <dt>database</dt>
          <dd>{formatBytes(database.bytes)}</dd>
          <dd class="vital-note">
            {database.kind}
            {database.free_bytes ? `, ${formatBytes(database.free_bytes)} free in it` : ""}
          </dd>
        </div>
        {disk ? (
          <div class="vital">
            <dt>free on its disk</dt>
            <dd>{formatBytes(disk.free_bytes)}</dd>
            <dd class="vital-note">of {formatBytes(disk.total_bytes)}</dd>
          </div>
        ) : null}
        {backups ? (
          <div class="vital">
            <dt>backups</dt>
            <dd>{backups.count ? formatBytes(backups.bytes) : "none"}</dd>
            <dd class="vital-note">
              {backups.newest_at ? `${backups.count}, newest ${formatDateTime(backups.newest_at)}` : "yet"}
            </dd>
          </div>
        ) : null}
      </dl>
      {known.removing ? (
        <p role="status" class="secondary">
          {known.removing === 1 ? "A deleted run is" : `${known.removing} deleted runs are`} being taken out.
          The room is used again at once, and goes back to the disk by and by.
        </p>
      ) : null}
    </>
  );
}

function Largest({ runs, measuring }: { runs: LargeRun[]; measuring: boolean }) {
  const asked = useSignal<{ run: LargeRun; trigger: HTMLElement } | null>(null);
  return (
    <section class="card storage-card" aria-labelledby="largest-title">
      <h2 id="largest-title">Largest runs</h2>
      {runs.length ? (
        <table class="data rows-as-blocks" data-testid="largest-runs">
          <thead>
            <tr>
              <th scope="col">run</th>
              <th scope="col">project</th>
              <th scope="col">state</th>
              <th scope="col">started</th>
              <th scope="col" class="number">
                points
              </th>
              <th scope="col" class="number">
                size
              </th>
              {isAdmin.value ? (
                <th scope="col">
                  <span class="visually-hidden">delete</span>
                </th>
              ) : null}
            </tr>
          </thead>
          <tbody>
            {runs.map((run) => (
              <tr key={run.id} data-run={run.id}>
                <td>
                  <a href={`/r/${run.id}`}>{run.name}</a>
                </td>
                <td data-label="project">{run.project}</td>
                <td>{stateText(run)}</td>
                <td data-label="started">{formatDateTime(run.started_at)}</td>
                <td class="number" data-label="points">
                  {run.points ? formatStep(run.points) : "—"}
                </td>
                <td class="number" data-label="size">
                  {formatBytes(run.bytes)}
                </td>
                {isAdmin.value ? (
                  <td class="number">
                    <button
                      type="button"
                      aria-label={`Delete ${run.name}`}
                      onClick={(event) => {
                        asked.value = { run, trigger: event.currentTarget };
                      }}
                    >
                      Delete…
                    </button>
                  </td>
                ) : null}
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p class="secondary">{measuring ? "Adding up…" : "There is no run yet."}</p>
      )}
      {asked.value ? (
        <DeleteRun
          key={asked.value.run.id}
          run={asked.value.run}
          trigger={asked.value.trigger}
          onDone={(deleted) => {
            asked.value = null;
            if (deleted) void loadStorage();
          }}
        />
      ) : null}
    </section>
  );
}

function stateText(run: LargeRun): string {
  const words = { live: "● Live", stalled: "◌ Stalled", lost: "◌ Lost contact", ended: "Ended" };
  return words[run.status];
}
