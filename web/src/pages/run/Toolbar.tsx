import { shownSteps } from "../../charts/window";
import type { View } from "../../state/address";
import type { RunStore } from "../../state/run";
import { changeView, view } from "../../state/view";
import { CopyButton } from "../../ui/CopyButton";

const TAILS = [500, 5000, 0];

/** Which steps and how: the same for all charts, and all of it in the address. */
export function Toolbar({ store }: { store: RunStore }) {
  const looks = view.value;
  const following = looks.zoom === null;
  const move = (make: (from: number, to: number) => [number, number]) => {
    const [from, to] = shownSteps(store, view.peek());
    const [low, high] = make(from, to);
    if (high - low >= 2) changeView({ zoom: [Math.max(0, Math.round(low)), Math.round(high)] }, true);
  };
  return (
    <div class="toolbar" role="toolbar" aria-label="View of the charts">
      <button
        type="button"
        class="chip"
        aria-pressed={following}
        data-testid="follow"
        title={following ? "Following the newest step" : "Go back to the newest step"}
        onClick={() => changeView({ zoom: following ? frozen(store) : null })}
      >
        {store.detail.value?.status === "ended" ? "End ▸" : "Live ▸"}
      </button>
      <fieldset class="segments">
        <legend class="visually-hidden">Steps shown</legend>
        {TAILS.map((tail) => (
          <button
            key={tail}
            type="button"
            aria-pressed={following && looks.follow === tail}
            onClick={() => changeView({ zoom: null, follow: tail })}
          >
            {tail === 0 ? "All" : tail === 500 ? "Last 500" : "Last 5k"}
          </button>
        ))}
      </fieldset>
      <fieldset class="segments">
        <legend class="visually-hidden">Zoom and pan</legend>
        <button
          type="button"
          aria-label="Zoom in"
          onClick={() => move((a, b) => [a + (b - a) / 4, b - (b - a) / 4])}
        >
          +
        </button>
        <button
          type="button"
          aria-label="Zoom out"
          onClick={() => move((a, b) => [a - (b - a) / 2, b + (b - a) / 2])}
        >
          −
        </button>
        <button
          type="button"
          aria-label="Earlier steps"
          onClick={() => move((a, b) => (a <= 0 ? [a, b] : [a - (b - a) / 2, b - (b - a) / 2]))}
        >
          ◂
        </button>
        <button
          type="button"
          aria-label="Later steps"
          onClick={() => move((a, b) => [a + (b - a) / 2, b + (b - a) / 2])}
        >
          ▸
        </button>
      </fieldset>
      <StepFields store={store} />
      <label class="select">
        x
        <select
          data-testid="x-mode"
          value={looks.x}
          onChange={(event) => changeView({ x: event.currentTarget.value as View["x"] })}
        >
          <option value="step">step</option>
          <option value="rel">relative time</option>
          <option value="wall">wall clock</option>
        </select>
      </label>
      <button
        type="button"
        class="chip"
        aria-pressed={looks.smooth}
        data-testid="smooth"
        onClick={() => changeView({ smooth: !looks.smooth })}
      >
        Smoothing
      </button>
      <CopyButton text={location.href} label="Copy link" />
    </div>
  );
}

function frozen(store: RunStore): [number, number] {
  const [from, to] = shownSteps(store, view.peek());
  return [Math.floor(from), Math.ceil(to)];
}

/** The steps as numbers, for those who cannot or do not want to drag. */
function StepFields({ store }: { store: RunStore }) {
  void store.version.value;
  const [from, to] = shownSteps(store, view.value).map(Math.round) as [number, number];
  const set = (low: number, high: number) => {
    if (Number.isFinite(low) && Number.isFinite(high) && high > low) changeView({ zoom: [low, high] }, true);
  };
  return (
    <span class="step-fields">
      <label>
        from
        <input
          type="number"
          min="0"
          value={from}
          onChange={(event) => set(event.currentTarget.valueAsNumber, to)}
        />
      </label>
      <label>
        to
        <input
          type="number"
          min="0"
          value={to}
          onChange={(event) => set(from, event.currentTarget.valueAsNumber)}
        />
      </label>
    </span>
  );
}
