import { askPermission, chooseDesktop, desktopChoice, desktopState, showSample } from "../../state/desktop";
import type { DesktopChoice } from "../../state/news";

/** Notifications of this browser, while a page of nanwatch is open in it. */
export function Desktop() {
  const state = desktopState.value;
  return (
    <section
      class="card notify-card"
      aria-labelledby="desktop-title"
      data-testid="desktop"
      data-state={state}
    >
      <h2 id="desktop-title">This browser</h2>
      {state === "granted" ? <Granted /> : null}
      {state === "default" ? (
        <>
          <p class="secondary">
            Shows incidents on your desktop while a page of nanwatch is open, also in the background.
          </p>
          <p>
            <button type="button" class="primary" onClick={() => void askPermission()}>
              Turn on desktop notifications…
            </button>
          </p>
        </>
      ) : null}
      {state === "denied" ? (
        <p>
          This browser has been told not to show notifications of this site. Change that in the site’s
          settings (the icon beside the address), then load the page again.
        </p>
      ) : null}
      {state === "insecure" ? (
        <p>
          Browsers show notifications only for pages on HTTPS or localhost, and this one is on plain HTTP. Use
          an SSH forward, or a channel below: ntfy reaches phones too.
        </p>
      ) : null}
      {state === "missing" ? (
        <p>This browser has no notifications for pages. Use a channel below: ntfy reaches phones too.</p>
      ) : null}
    </section>
  );
}

function Granted() {
  return (
    <div class="notify-line">
      <label>
        Show{" "}
        <select
          data-testid="desktop-choice"
          value={desktopChoice.value}
          onChange={(event) => chooseDesktop(event.currentTarget.value as DesktopChoice)}
        >
          <option value="warning">caution and critical</option>
          <option value="critical">critical only</option>
          <option value="off">nothing</option>
        </select>
      </label>
      <button type="button" onClick={showSample}>
        Show a sample
      </button>
    </div>
  );
}
