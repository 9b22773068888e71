import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Command, RunDetail } from "../../net/types";
import { boundsRefusal, type Draft, isGrave, lrChange, refusalText, send } from "../../state/commands";
import { mayControl } from "../../state/session";
import { formatNumber, formatStep } from "../../ui/format";

interface Props {
  change: Draft;
  trigger: HTMLElement | null;
  detail: RunDetail;
  lrs: Map<string, number>;
  onDone: (command: Command | null) => void;
}

/**
 * Asks before anything is sent: what changes, from what to what, and where it takes effect.
 * Stopping and raising ask for the run's name and a reason; focus starts on Cancel.
 */
export function Confirm({ change, trigger, detail, lrs, onDone }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const cancelButton = useRef<HTMLButtonElement>(null);
  const name = useSignal("");
  const reason = useSignal("");
  const sending = useSignal(false);
  const failure = useSignal("");
  const grave = isGrave(change, lrs);
  const refused = boundsRefusal(detail, change, lrs);
  const forbidden = grave && !mayControl.value ? "This needs the role “control”." : "";
  const ready =
    !sending.value &&
    !refused &&
    !forbidden &&
    (!grave || (name.value.trim() === detail.name && reason.value.trim().length > 0));

  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    if (!grave && trigger) placeBelow(element, trigger);
    cancelButton.current?.focus();
    return () => {
      element.close(); // while it is modal nothing else can have the focus
      trigger?.focus();
    };
  }, []);

  const confirm = async () => {
    if (!ready) return;
    sending.value = true;
    failure.value = "";
    try {
      onDone(await send(detail.id, change, reason.value.trim()));
    } catch (error) {
      // The key stays the same: trying again cannot make a second command.
      failure.value = refusalText(error);
      sending.value = false;
    }
  };

  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside the dialog closes it; Escape does so by keyboard
    <dialog
      ref={dialog}
      class={grave ? "confirm confirm-grave" : "confirm"}
      aria-labelledby="confirm-title"
      data-testid="confirm-dialog"
      onCancel={(event) => {
        event.preventDefault();
        onDone(null);
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onDone(null);
      }}
    >
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          void confirm();
        }}
      >
        <h2 id="confirm-title">{change.label}</h2>
        <Effect change={change} detail={detail} lrs={lrs} />
        {grave ? (
          <>
            <label class="field">
              Type the run's name, <b>{detail.name}</b>
              <input
                data-testid="confirm-name"
                value={name.value}
                autoComplete="off"
                onInput={(event) => {
                  name.value = event.currentTarget.value;
                }}
              />
            </label>
            <label class="field">
              Reason, kept in the audit
              <input
                data-testid="confirm-reason"
                value={reason.value}
                onInput={(event) => {
                  reason.value = event.currentTarget.value;
                }}
              />
            </label>
          </>
        ) : null}
        {refused || forbidden || failure.value ? (
          <p role="alert" class="refusal" data-testid="confirm-refusal">
            {refused || forbidden || failure.value}
          </p>
        ) : null}
        <div class="button-row confirm-buttons">
          <button type="button" ref={cancelButton} data-testid="cancel-confirm" onClick={() => onDone(null)}>
            Cancel
          </button>
          <button
            type="submit"
            class={change.kind === "stop" ? "danger" : "primary"}
            data-testid="confirm"
            disabled={!ready}
          >
            {sending.value ? "Sending…" : change.label}
          </button>
        </div>
      </form>
    </dialog>
  );
}

function Effect({ change, detail, lrs }: { change: Draft; detail: RunDetail; lrs: Map<string, number> }) {
  if (change.kind === "checkpoint")
    return (
      <p>
        {detail.name} writes model, optimizer and scaler to a file on its own machine, at the close of the
        next attempt. The training goes on.
      </p>
    );
  if (change.kind === "arm_tracing")
    return (
      <p>
        For {formatStep(change.args.steps)} attempts {detail.name} looks at every layer, forward and backward,
        and says where the first value that is not finite comes from. This changes nothing in the training;
        those attempts take longer.
      </p>
    );
  if (change.kind === "stop")
    return (
      <>
        <p>
          {detail.name} saves a checkpoint first, then ends by itself at the close of the next attempt.{" "}
          <b>This cannot be undone.</b>
        </p>
        <p class="secondary">
          If the checkpoint cannot be written, the run says so here and does not stop silently.
        </p>
      </>
    );
  const changes = lrChange(lrs, change.args);
  return (
    <>
      {changes.length ? (
        <table class="data change">
          <thead>
            <tr>
              <th scope="col">optimizer</th>
              <th scope="col">LR now</th>
              <th scope="col">
                <span class="visually-hidden">becomes</span>
              </th>
              <th scope="col">LR after</th>
            </tr>
          </thead>
          <tbody>
            {changes.map((one) => (
              <tr key={one.scope}>
                <td>{one.scope || "main"}</td>
                <td>{formatNumber(one.before)}</td>
                <td>→</td>
                <td>
                  <b>{formatNumber(one.after)}</b>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p>The run has not reported its learning rate yet.</p>
      )}
      <p class="secondary">
        Takes effect at the close of the next attempt, as a factor on the schedule: a scheduler goes on from
        it. It can be restored.
      </p>
    </>
  );
}

/** Below the button that was pressed, inside the screen, and never with Confirm where that button was. */
function placeBelow(element: HTMLElement, trigger: HTMLElement): void {
  if (window.innerWidth < 600) return;
  const from = trigger.getBoundingClientRect();
  const width = element.offsetWidth;
  const height = element.offsetHeight;
  const left = Math.max(12, Math.min(window.innerWidth - width - 12, from.left));
  const below = from.bottom + 8;
  const top = below + height < window.innerHeight ? below : Math.max(12, from.top - height - 8);
  element.style.margin = "0";
  element.style.left = `${left}px`;
  element.style.top = `${top}px`;
}
