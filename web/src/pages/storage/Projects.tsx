import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { errorText } from "../../net/api";
import type { ProjectSize, StorageAnswer } from "../../net/storage";
import { isAdmin } from "../../state/session";
import { concernedWords, type Kept, keepPoints, keptWords, preview } from "../../state/storage";
import { formatBytes, formatStep } from "../../ui/format";
import { Form } from "../notify/Form";

const COMMON = [7, 30, 90, 365];

/** A line for each project: what it takes, and how long points are kept one by one. */
export function Projects({ known }: { known: StorageAnswer }) {
  const editing = useSignal("");
  return (
    <section class="card storage-card" aria-labelledby="projects-title">
      <h2 id="projects-title">Projects</h2>
      <p class="secondary">
        Summaries stay for ever, so charts keep their shape and every NaN. Pinned runs and runs with an open
        incident keep every point. Without a rule of its own a project keeps points{" "}
        {keptWords(known.default_days)}.
      </p>
      {known.projects.length ? (
        <table class="data rows-as-blocks" data-testid="storage-projects">
          <thead>
            <tr>
              <th scope="col">project</th>
              <th scope="col" class="number">
                runs
              </th>
              <th scope="col" class="number">
                points
              </th>
              <th scope="col" class="number">
                size
              </th>
              <th scope="col">points are kept</th>
              {isAdmin.value ? (
                <th scope="col">
                  <span class="visually-hidden">change</span>
                </th>
              ) : null}
            </tr>
          </thead>
          <tbody>
            {known.projects.map((one) => (
              <Row key={one.project} one={one} known={known} editing={editing} />
            ))}
          </tbody>
        </table>
      ) : (
        <p class="secondary">There is no project yet.</p>
      )}
    </section>
  );
}

interface RowProps {
  one: ProjectSize;
  known: StorageAnswer;
  /** The project whose retention is being changed. */
  editing: { value: string };
}

function Row({ one, known, editing }: RowProps) {
  const open = editing.value === one.project;
  const size = known.measured_at === null ? "adding up…" : formatBytes(one.bytes);
  return (
    <>
      <tr data-project={one.project}>
        <td>
          <a href={`/runs?q=${encodeURIComponent(one.project)}`}>{one.project}</a>
        </td>
        <td class="number" data-label="runs">
          {formatStep(one.runs)}
        </td>
        <td class="number" data-label="points">
          {one.points ? formatStep(one.points) : "—"}
          {one.dropped ? <small> and {formatStep(one.dropped)} as summaries</small> : null}
        </td>
        <td class="number" data-label="size">
          {size}
        </td>
        <td data-label="kept">
          {keptWords(one.days)} {one.own ? null : <small>by default</small>}
        </td>
        {isAdmin.value ? (
          <td class="number">
            <button
              type="button"
              aria-expanded={open}
              aria-label={`Change how long ${one.project} keeps points`}
              onClick={() => {
                editing.value = open ? "" : one.project;
              }}
            >
              Change…
            </button>
          </td>
        ) : null}
      </tr>
      {open ? (
        <tr class="storage-edit">
          <td colSpan={6}>
            <Edit one={one} known={known} onDone={() => (editing.value = "")} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

function Edit({ one, known, onDone }: { one: ProjectSize; known: StorageAnswer; onDone: () => void }) {
  const usual = one.days === null || COMMON.includes(one.days);
  const choice = useSignal(
    one.own ? (one.days === null ? "never" : usual ? String(one.days) : "other") : "default",
  );
  const other = useSignal(usual ? "14" : String(one.days));
  const said = useSignal("");
  const kept = keptOf(choice.value, other.value);
  const days = kept === "default" ? known.default_days : kept;
  useEffect(() => {
    said.value = "";
    if (days === null || !(days > 0)) return;
    let current = true;
    preview(one.project, days).then(
      (found) => {
        if (current) said.value = concernedWords(found, days);
      },
      (error: unknown) => {
        if (current) said.value = errorText(error);
      },
    );
    return () => {
      current = false;
    };
  }, [one.project, days]);
  return (
    <Form
      label={`How long ${one.project} keeps points`}
      submit="Save"
      onCancel={onDone}
      onSubmit={async () => {
        // Never sent: NaN would travel as null, which means for ever.
        if (typeof kept === "number" && !(kept > 0)) throw new Error("Expected a number of days above 0.");
        await keepPoints(one.project, kept);
        onDone();
      }}
    >
      <label class="field">
        <span>Keep points of {one.project}</span>
        <select
          value={choice.value}
          onChange={(event) => {
            choice.value = event.currentTarget.value;
          }}
        >
          <option value="default">as the server’s default: {keptWords(known.default_days)}</option>
          <option value="never">for ever</option>
          {COMMON.map((count) => (
            <option key={count} value={String(count)}>
              {keptWords(count)}
            </option>
          ))}
          <option value="other">another number of days</option>
        </select>
      </label>
      {choice.value === "other" ? (
        <label class="field">
          <span>Days</span>
          <input
            type="text"
            inputMode="decimal"
            value={other.value}
            required
            onInput={(event) => {
              other.value = event.currentTarget.value;
            }}
          />
        </label>
      ) : null}
      <p role="status" data-testid="retention-preview">
        {said.value || (days === null ? "Nothing is dropped from then on." : "")}
      </p>
    </Form>
  );
}

function keptOf(choice: string, other: string): Kept {
  if (choice === "default") return "default";
  if (choice === "never") return null;
  return Number((choice === "other" ? other : choice).replace(",", "."));
}
