import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { saveCsv } from "../charts/csv";
import { errorText, getJson } from "../net/api";
import type { AuditRow } from "../net/types";
import { route } from "../router";
import { subject } from "../state/title";
import { formatDateTime, formatText, formatUtc } from "../ui/format";

interface Answer {
  rows: AuditRow[];
  next: string | number | null;
}

/** Who did what, in the order it happened; rows can be added, never changed. */
export function Audit() {
  subject.value = "Audit";
  const run = new URLSearchParams(route.value.search).get("run") ?? "";
  const rows = useSignal<AuditRow[] | null>(null);
  const next = useSignal<Answer["next"]>(null);
  const failure = useSignal("");
  const load = async (after: Answer["next"]) => {
    const parameters = new URLSearchParams({ limit: "100" });
    if (run) parameters.set("run", run);
    if (after !== null) parameters.set("after", String(after));
    try {
      const answer = await getJson<Answer>(`/api/audit?${parameters}`);
      rows.value = after === null ? answer.rows : [...(rows.peek() ?? []), ...answer.rows];
      next.value = answer.next;
    } catch (error) {
      failure.value = errorText(error);
    }
  };
  useEffect(() => void load(null), [run]);
  return (
    <section>
      <div class="wall-bar">
        <h1>Audit</h1>
        <button
          type="button"
          disabled={!rows.value?.length}
          onClick={() =>
            saveCsv("nanwatch-audit", {
              columns: ["time", "actor", "role", "via", "action", "run", "target", "detail", "hash"],
              rows: (rows.peek() ?? []).map((row) => [
                formatUtc(row.at),
                row.actor,
                row.role,
                row.via,
                row.action,
                row.run_id,
                row.target,
                JSON.stringify(row.detail),
                row.hash,
              ]),
            })
          }
        >
          Export CSV
        </button>
      </div>
      {failure.value ? <p role="alert">{failure.value}</p> : null}
      {rows.value && !rows.value.length ? <p class="secondary">Nothing has been done yet.</p> : null}
      {rows.value?.length ? (
        <div class="table-scroll card">
          <table class="data" data-testid="audit-table">
            <thead>
              <tr>
                {["time", "who", "role", "via", "action", "run", "target", "detail"].map((name) => (
                  <th scope="col" key={name}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.value.map((row) => (
                <tr key={row.id} data-action={row.action}>
                  <td class="nowrap" title={formatUtc(row.at)}>
                    {formatDateTime(row.at)}
                  </td>
                  <td>{row.actor}</td>
                  <td>{row.role}</td>
                  <td>{row.via}</td>
                  <td>{row.action}</td>
                  <td>{row.run_id ? <a href={`/r/${row.run_id}`}>{row.run_id.slice(0, 8)}</a> : "—"}</td>
                  <td class="mono" title={row.target}>
                    {row.target.length > 14 ? `${row.target.slice(0, 12)}…` : row.target}
                  </td>
                  <td class="mono wrap">{detailText(row.detail)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      {next.value !== null ? (
        <button type="button" onClick={() => void load(next.peek())}>
          Show more
        </button>
      ) : null}
    </section>
  );
}

function detailText(detail: Record<string, unknown> | null): string {
  return Object.entries(detail ?? {})
    .map(([name, value]) => `${name} ${valueText(value)}`)
    .join(" · ");
}

/** Values by scope in one line; numbers that travel as text in the page's notation. */
function valueText(value: unknown): string {
  if (typeof value === "string") return formatText(value);
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, one]) => [name, valueText(one)].filter(Boolean).join(" "))
    .join(", ");
}
