import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { errorText, getJson } from "../net/api";
import type { RunStorage } from "../net/storage";
import type { RunStatus } from "../net/types";
import { deleteRun } from "../state/storage";
import { formatBytes, formatStep } from "./format";

interface Props {
  run: { id: string; name: string; project: string; status: RunStatus };
  trigger: HTMLElement | null;
  onDone: (deleted: boolean) => void;
}

/** Says what goes for good and asks for the run's name; a run that is live is not deleted from here. */
export function DeleteRun({ run, trigger, onDone }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const cancelButton = useRef<HTMLButtonElement>(null);
  const typed = useSignal("");
  const busy = useSignal(false);
  const failure = useSignal("");
  const size = useSignal<RunStorage | null>(null);
  const live = run.status === "live" || run.status === "stalled";
  const ready = !live && !busy.value && typed.value.trim() === run.name.trim();
  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    cancelButton.current?.focus();
    return () => {
      element.close(); // while it is modal nothing else can have the focus
      trigger?.focus();
    };
  }, []);
  useEffect(() => {
    getJson<RunStorage>(`/api/runs/${encodeURIComponent(run.id)}/storage`).then(
      (found) => {
        size.value = found;
      },
      (error: unknown) => {
        failure.value = errorText(error);
      },
    );
  }, [run.id]);
  const confirm = async () => {
    if (!ready) return;
    busy.value = true;
    failure.value = "";
    try {
      await deleteRun(run.id, run.name);
      onDone(true);
    } catch (error) {
      failure.value = errorText(error);
      busy.value = false;
    }
  };
  return (
    <dialog
      ref={dialog}
      class="confirm confirm-grave"
      aria-labelledby="delete-title"
      data-testid="delete-dialog"
      onCancel={(event) => {
        event.preventDefault();
        onDone(false);
      }}
    >
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          void confirm();
        }}
      >
        <h2 id="delete-title">Delete {run.name}</h2>
        {live ? (
          <p role="alert" class="refusal">
            {run.name} is {run.status}: stop the training first. A run is deleted when it has ended or contact
            to it is lost.
          </p>
        ) : (
          <>
            <p>
              What goes for good: {size.value ? lostWords(size.value) : "…"} <b>This cannot be undone.</b>
            </p>
            <p class="secondary">
              Checkpoints and recordings on the training machine stay. The audit keeps that it was deleted and
              by whom. What its training still sends is refused for ever.
            </p>
            <label class="field">
              <span>
                Type the run's name, <b>{run.name}</b>
              </span>
              <input
                data-testid="delete-name"
                value={typed.value}
                autoComplete="off"
                autocapitalize="off"
                spellcheck={false}
                onInput={(event) => {
                  typed.value = event.currentTarget.value;
                }}
              />
            </label>
          </>
        )}
        {failure.value ? (
          <p role="alert" class="refusal">
            {failure.value}
          </p>
        ) : null}
        <div class="button-row confirm-buttons">
          <button type="button" ref={cancelButton} onClick={() => onDone(false)}>
            {live ? "Close" : "Keep it"}
          </button>
          {live ? null : (
            <button type="submit" class="danger" data-testid="delete-confirm" disabled={!ready}>
              {busy.value ? "Deleting…" : "Delete for good"}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}

/** `1 234 points in 12 series, 3 incidents, 2 commands (1.20 MiB).` */
export function lostWords(size: RunStorage): string {
  const count = (n: number, one: string) => `${formatStep(n)} ${one}${n === 1 ? "" : "s"}`;
  const points = size.points ? `${count(size.points, "point")} in ` : "every point of ";
  const parts = [
    `${points}${formatStep(size.series)} series`,
    size.dropped ? `summaries of ${formatStep(size.dropped)} more` : "",
    size.incidents ? count(size.incidents, "incident") : "",
    size.marks ? count(size.marks, "mark") : "",
    size.commands ? count(size.commands, "command") : "",
  ];
  return `${parts.filter(Boolean).join(", ")} (${formatBytes(size.bytes)}).`;
}

/** Said once on the page one comes to. */
export function Deleted({ name }: { name: string }) {
  if (!name) return null;
  return (
    <p role="status" class="deleted-note" data-testid="deleted-note">
      ✓ {name} is deleted. Its rows are taken out in the background.
    </p>
  );
}
