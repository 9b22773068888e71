import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { errorText, getJson } from "../net/api";
import type { RunSummary } from "../net/types";
import { route, setSearch } from "../router";
import { lastDeleted } from "../state/storage";
import { subject } from "../state/title";
import { Deleted } from "../ui/DeleteRun";
import { formatDateTime, formatStep } from "../ui/format";
import { SeverityBadge } from "../ui/SeverityBadge";
import { statusText } from "../ui/status";

interface Answer {
  runs: RunSummary[];
  next: string | number | null;
}

export function Runs() {
  subject.value = "Runs";
  const query = new URLSearchParams(route.value.search).get("q") ?? "";
  const runs = useSignal<RunSummary[] | null>(null);
  const next = useSignal<Answer["next"]>(null);
  const failure = useSignal("");
  const load = async (after: Answer["next"], signal?: AbortSignal) => {
    const parameters = new URLSearchParams({ limit: "50" });
    if (query) parameters.set("q", query);
    if (after !== null) parameters.set("after", String(after));
    try {
      const answer = await getJson<Answer>(`/api/runs?${parameters}`, signal);
      runs.value = after === null ? answer.runs : [...(runs.peek() ?? []), ...answer.runs];
      next.value = answer.next;
      failure.value = "";
    } catch (error) {
      if (!signal?.aborted) failure.value = errorText(error);
    }
  };
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => void load(null, abort.signal), query ? 200 : 0);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [query]);
  useEffect(
    () => () => {
      lastDeleted.value = "";
    },
    [],
  );
  return (
    <section>
      <div class="wall-bar">
        <h1>Runs</h1>
        <label class="filter">
          <span class="visually-hidden">Filter runs</span>
          <input
            type="search"
            placeholder="Search by name"
            value={query}
            onInput={(event) => {
              const text = event.currentTarget.value;
              setSearch(text ? `?q=${encodeURIComponent(text)}` : "", false);
            }}
          />
        </label>
      </div>
      <Deleted name={lastDeleted.value} />
      {failure.value ? <p role="alert">{failure.value}</p> : null}
      {runs.value && !runs.value.length ? <p class="secondary">No run matches.</p> : null}
      {runs.value?.length ? <RunTable runs={runs.value} /> : null}
      {next.value !== null ? (
        <button type="button" onClick={() => void load(next.peek())}>
          Show more
        </button>
      ) : null}
    </section>
  );
}

function RunTable({ runs }: { runs: RunSummary[] }) {
  return (
    <div class="table-scroll card">
      <table class="data" data-testid="runs-table">
        <thead>
          <tr>
            <th scope="col">run</th>
            <th scope="col">project</th>
            <th scope="col">state</th>
            <th scope="col">severity</th>
            <th scope="col" class="number">
              step
            </th>
            <th scope="col">started</th>
            <th scope="col">last seen</th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => {
            const status = statusText(run, Number.NaN);
            return (
              <tr key={run.id}>
                <td>
                  <a href={`/r/${run.id}`}>{run.name}</a>
                </td>
                <td>{run.project}</td>
                <td>
                  {status.mark} {run.status === "lost" ? "Lost contact" : status.text}
                </td>
                <td>
                  {run.severity ? <SeverityBadge severity={run.severity} state={run.incident?.state} /> : "—"}
                </td>
                <td class="number">{formatStep(run.last_step)}</td>
                <td>{formatDateTime(run.started_at)}</td>
                <td>{formatDateTime(run.last_seen_at)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
