import { useSignal } from "@preact/signals";
import { connection } from "../../net/signals";
import type { Command, RunDetail } from "../../net/types";
import {
  cancel,
  commandWords,
  type Draft,
  draft,
  draftLabel,
  refusalText,
  stateWords,
  TERMINAL,
  TRACING_ATTEMPTS,
} from "../../state/commands";
import type { RunStore } from "../../state/run";
import { mayControl, mayRespond } from "../../state/session";
import { formatClock, formatNumber, formatText, parseMetric } from "../../ui/format";

const ENABLE =
  'nanwatch.init(project="…", control=nanwatch.Control(lr=(1e-7, 1e-2), checkpoint=True, stop=True))';

/** Learning rates in force, from the newest points the run sent. */
export function currentLrs(store: RunStore): Map<string, number> {
  const found = new Map<string, number>();
  for (const series of store.seriesOf("lr")) {
    const value = store.lastValue(series.id);
    if (value !== undefined && Number.isFinite(value)) found.set(series.scope, value);
  }
  return found;
}

interface Props {
  store: RunStore;
  detail: RunDetail;
  ask: (change: Draft, trigger: HTMLElement) => void;
}

export function Controls({ store, detail, ask }: Props) {
  void store.version.value;
  const offer = detail.control;
  const allowed = new Set(detail.controls);
  const commands = [...store.commands.value.values()].sort((a, b) => b.created_at - a.created_at);
  return (
    <section class="card controls" aria-label="Controls">
      <h2>Controls</h2>
      {allowed.size === 0 ? <ReadOnly /> : null}
      {allowed.size > 0 && !mayRespond.value ? (
        <p class="secondary">You may look, not act: your role is “view”. Acting needs the role “respond”.</p>
      ) : null}
      {allowed.size > 0 && mayRespond.value ? (
        <Buttons store={store} detail={detail} ask={ask} allowed={allowed} />
      ) : null}
      {allowed.size > 0 ? (
        <p class="small-print">
          Allowed by the {offer?.granted_by === "launch" ? "launch command" : "training script"}:{" "}
          {offerWords(offer)}
        </p>
      ) : null}
      {(offer?.world ?? 1) > 1 ? (
        <p class="small-print">
          This training has {offer?.world} ranks: learning rate and stop are refused, because they would reach
          rank 0 only.
        </p>
      ) : null}
      {commands.length ? (
        <ul class="commands" aria-label="Commands">
          {commands.slice(0, 8).map((command) => (
            <CommandRow key={command.id} command={command} store={store} ask={ask} detail={detail} />
          ))}
        </ul>
      ) : null}
    </section>
  );
}

/** What the run lets people do, with its bounds. */
function offerWords(offer: RunDetail["control"]): string {
  const words = [
    offer?.lr ? `LR ${formatText(offer.lr[0])} to ${formatText(offer.lr[1])}` : "",
    offer?.lr_factor
      ? `LR factor ${formatText(offer.lr_factor[0])} to ${formatText(offer.lr_factor[1])}`
      : "",
    offer?.checkpoint ? "checkpoint" : "",
    offer?.stop ? "stop" : "",
    offer?.tracing ? "tracing" : "",
  ];
  return words.filter(Boolean).join("; ");
}

function ReadOnly() {
  return (
    <>
      <p>
        <strong>Read-only run.</strong> Its script does not let people act. To allow it, start the run with
      </p>
      <pre class="wrap">{ENABLE}</pre>
      <p class="small-print">
        Only what is named there can be done from here, within those bounds; the run itself enforces them.
      </p>
    </>
  );
}

function Buttons({ store, detail, ask, allowed }: Props & { allowed: Set<string> }) {
  const value = useSignal("");
  const lrs = currentLrs(store);
  const off = detail.status !== "live" || connection.value.state !== "live";
  const why =
    detail.status === "ended"
      ? "The run has ended."
      : detail.status === "lost"
        ? "The run cannot be reached now."
        : connection.value.state !== "live"
          ? "This page is not connected."
          : "";
  const disabled = off && detail.status !== "stalled";
  const wished = parseMetric(value.value);
  const usable = wished !== null && Number.isFinite(wished) && wished > 0;
  return (
    <>
      {allowed.has("scale_lr") || allowed.has("set_lr") ? (
        <>
          <dl class="lr-now">
            {[...lrs].map(([scope, lr]) => (
              <div key={scope}>
                <dt>LR {scope}</dt>
                <dd>{formatNumber(lr)}</dd>
              </div>
            ))}
          </dl>
          <div class="button-row">
            {([0.5, 0.1] as const).map((factor) => (
              <button
                key={factor}
                type="button"
                data-testid={`button-scale-lr-${factor}`}
                disabled={disabled || !allowed.has("scale_lr")}
                onClick={(event) =>
                  ask(draft("scale_lr", { factor }, `Lower LR to ×${factor}`), event.currentTarget)
                }
              >
                LR ×{factor}
              </button>
            ))}
          </div>
          <form
            class="button-row"
            onSubmit={(event) => {
              event.preventDefault();
              if (!usable || disabled) return;
              const trigger = event.currentTarget.querySelector("button")!;
              ask(draft("set_lr", { lr: wished }, `Set LR to ${formatNumber(wished)}`), trigger);
            }}
          >
            <label>
              <span class="visually-hidden">Learning rate</span>
              <input
                inputMode="decimal"
                placeholder="LR, for example 1e-4"
                value={value.value}
                data-testid="input-lr"
                disabled={disabled}
                onInput={(event) => {
                  value.value = event.currentTarget.value;
                }}
              />
            </label>
            <button
              type="submit"
              disabled={!usable || disabled || !allowed.has("set_lr")}
              data-testid="button-set-lr"
            >
              Set LR…
            </button>
          </form>
        </>
      ) : null}
      <div class="button-row">
        {allowed.has("checkpoint") ? (
          <button
            type="button"
            data-testid="button-checkpoint"
            disabled={disabled}
            onClick={(event) => ask(draft("checkpoint", {}, "Save checkpoint"), event.currentTarget)}
          >
            Save checkpoint
          </button>
        ) : null}
        {allowed.has("arm_tracing") ? (
          <button
            type="button"
            data-testid="button-trace"
            disabled={disabled}
            title="Look at every layer for a while: where does the first non-finite value come from?"
            onClick={(event) => {
              const args = { steps: TRACING_ATTEMPTS };
              ask(
                draft("arm_tracing", args, draftLabel("arm_tracing", args, detail.name)),
                event.currentTarget,
              );
            }}
          >
            Trace {TRACING_ATTEMPTS} attempts
          </button>
        ) : null}
        {allowed.has("stop") && mayControl.value ? (
          <button
            type="button"
            class="danger"
            data-testid="button-stop"
            disabled={disabled || !mayControl.value}
            title={mayControl.value ? undefined : "Stopping needs the role “control”"}
            onClick={(event) =>
              ask(draft("stop", { checkpoint: true }, `Stop ${detail.name}`), event.currentTarget)
            }
          >
            Stop…
          </button>
        ) : null}
      </div>
      {why ? <p class="small-print">{why} Nothing can be sent.</p> : null}
    </>
  );
}

/** One command with its states and their times: what the run said, never what was wished. */
function CommandRow({ command, store, ask, detail }: { command: Command } & Props) {
  const failure = useSignal("");
  const open = !TERMINAL.has(command.state) && command.state !== "applied";
  const factor = command.factor === null ? null : parseMetric(command.factor);
  const restorable =
    (command.state === "applied" || command.state === "verified") &&
    factor !== null &&
    Number.isFinite(factor) &&
    factor > 0 &&
    factor !== 1 &&
    detail.status === "live" &&
    detail.controls.includes("scale_lr");
  const inverse = factor ? Number((1 / factor).toPrecision(12)) : 1;
  const doCancel = async () => {
    try {
      store.putCommand(await cancel(command.id));
    } catch (error) {
      failure.value = refusalText(error);
    }
  };
  return (
    <li
      class="command"
      data-testid={`command-${command.id}`}
      data-state={command.state}
      data-kind={command.kind}
    >
      <div class="command-head">
        <strong>{commandWords(command)}</strong>
        <span class={`state state-${command.state}`} data-testid="command-state">
          {stateWords(command)}
        </span>
      </div>
      {Object.keys(command.after).length ? (
        <p class="command-change">
          {Object.entries(command.after).map(([scope, after]) => (
            <span key={scope}>
              {scope ? `${scope} ` : ""}
              {formatText(command.before[scope])} → {formatText(after)}
            </span>
          ))}
        </p>
      ) : null}
      <ol class="chips" aria-label="States">
        {command.transitions.map((one, i) => (
          <li key={`${one.state}${String(i)}`} title={one.detail || undefined}>
            {one.state} <time>{formatClock(one.at)}</time>
          </li>
        ))}
      </ol>
      {command.message ? <p class="command-message">The run says: {command.message}</p> : null}
      {failure.value ? (
        <p role="alert" class="command-message">
          {failure.value}
        </p>
      ) : null}
      <div class="button-row">
        <small class="secondary">
          {command.actor}
          {command.reason ? ` · ${command.reason}` : ""}
        </small>
        {open && command.state !== "armed" && mayRespond.value ? (
          <button type="button" class="quiet" data-testid="button-cancel" onClick={() => void doCancel()}>
            Cancel command
          </button>
        ) : null}
        {restorable ? (
          <button
            type="button"
            class="quiet"
            data-testid="button-restore"
            disabled={inverse > 1 && !mayControl.value}
            title={inverse > 1 && !mayControl.value ? "Raising the LR needs the role “control”" : undefined}
            onClick={(event) =>
              ask(
                draft(
                  "scale_lr",
                  { ...command.args, lr: undefined, factor: inverse },
                  `Restore LR (×${formatNumber(inverse)})`,
                ),
                event.currentTarget,
              )
            }
          >
            Restore
          </button>
        ) : null}
      </div>
    </li>
  );
}
