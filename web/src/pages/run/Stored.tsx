import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { errorText, getJson } from "../../net/api";
import type { RunStorage } from "../../net/storage";
import type { RunDetail } from "../../net/types";
import { navigate } from "../../router";
import { isAdmin, mayControl } from "../../state/session";
import { keptWords, pinRun } from "../../state/storage";
import { DeleteRun } from "../../ui/DeleteRun";
import { formatBytes, formatStep } from "../../ui/format";

/** What is kept of this run and for how long; where it is pinned, exported and deleted. */
export function Stored({ detail }: { detail: RunDetail }) {
  const size = useSignal<RunStorage | null>(null);
  const failure = useSignal("");
  const asked = useSignal<HTMLElement | null>(null);
  const load = async () => {
    try {
      size.value = await getJson<RunStorage>(`/api/runs/${detail.id}/storage`);
      failure.value = "";
    } catch (error) {
      failure.value = errorText(error);
    }
  };
  useEffect(() => void load(), [detail.id]);
  const known = size.value;
  const pin = async (pinned: boolean) => {
    try {
      await pinRun(detail.id, pinned);
      await load();
    } catch (error) {
      failure.value = errorText(error);
    }
  };
  return (
    <details class="card" data-testid="stored">
      <summary>
        Stored data <small>{known ? formatBytes(known.bytes) : ""}</small>
      </summary>
      <div class="stored">
        {known ? (
          <p>
            {known.points ? `${formatStep(known.points)} points, kept ` : "Points are kept "}
            {known.pinned ? "for ever: this run is pinned" : keptWords(known.days)}
            {known.dropped ? `; of ${formatStep(known.dropped)} more only summaries are left` : ""}.{" "}
            <a href="/settings/storage">Storage</a>
          </p>
        ) : null}
        {known && mayControl.value ? (
          <label class="check">
            <input
              type="checkbox"
              checked={known.pinned}
              onChange={(event) => void pin(event.currentTarget.checked)}
            />
            <span>Pinned: keep every point of this run</span>
          </label>
        ) : null}
        {failure.value ? <p role="alert">{failure.value}</p> : null}
        <div class="stored-buttons">
          <a class="button" href={`/api/runs/${detail.id}/export?format=csv`} download>
            Export CSV
          </a>
          {isAdmin.value ? (
            <button
              type="button"
              data-testid="delete-run"
              onClick={(event) => {
                asked.value = event.currentTarget;
              }}
            >
              Delete run…
            </button>
          ) : null}
        </div>
      </div>
      {asked.value ? (
        <DeleteRun
          run={detail}
          trigger={asked.value}
          onDone={(deleted) => {
            asked.value = null;
            if (deleted) navigate("/runs");
          }}
        />
      ) : null}
    </details>
  );
}
