import type { ComponentChildren } from "preact";
import { connection, lastFrameAt, outdated } from "../net/signals";
import { route } from "../router";
import { failing } from "../state/notifications";
import { unsaved } from "../state/rules";
import { session } from "../state/session";
import { chooseTheme, themeChoice } from "../state/theme";
import { attention, liveCount, nextIncident } from "../state/wall";
import { formatClock } from "./format";

/** What is on every page: name, master caution, where to go, whether it is live. */
export function Shell({ children }: { children: ComponentChildren }) {
  const lost = connection.value.state === "lost";
  return (
    <div class={lost ? "app not-live" : "app"}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="topbar">
        <a class="brand" href="/">
          nanwatch
        </a>
        <MasterCaution />
        <nav aria-label="Pages">
          <NavLink to="/" text="Wall" />
          <NavLink to="/runs" text="Runs" />
          <NavLink to="/audit" text="Audit" />
          <NavLink
            to="/settings/rules"
            text="Rules"
            note={unsaved.value.length ? "Changes of limits are not saved" : ""}
          />
          <NavLink to="/settings/notifications" text="Notifications" />
          <NavLink to="/settings/storage" text="Storage" />
        </nav>
        <ConnectionState />
        <ThemeToggle />
      </header>
      {lost ? <LostBanner /> : null}
      {outdated.value ? (
        <div class="lost-banner" role="status">
          The server was updated.{" "}
          <button type="button" onClick={() => location.reload()}>
            Reload the page
          </button>
        </div>
      ) : null}
      <NotArriving />
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      <footer class="footer">
        {session.value ? (
          <span>
            {session.value.actor} · {session.value.role} · nanwatch {session.value.version}
          </span>
        ) : null}
      </footer>
    </div>
  );
}

/** Somebody counts on being told, and is not. */
function NotArriving() {
  const rows = failing.value;
  if (!rows.length || route.value.path === "/settings/notifications") return null;
  const names = [...new Set(rows.map((row) => row.channel || "a deleted channel"))].join(", ");
  return (
    <div class="lost-banner" role="status" data-testid="not-arriving">
      <span aria-hidden="true">◌</span> Notifications do not arrive at {names}.{" "}
      <a href="/settings/notifications">See why</a>
    </div>
  );
}

/** `note`: something on that page waits for a person. */
function NavLink({ to, text, note }: { to: string; text: string; note?: string }) {
  return (
    <a href={to} aria-current={route.value.path === to ? "page" : undefined} title={note || undefined}>
      {text}
      {note ? (
        <>
          <span aria-hidden="true"> ●</span>
          <span class="visually-hidden">: {note}</span>
        </>
      ) : null}
    </a>
  );
}

/** Dark when nothing is wrong; otherwise the counts of what nobody has acknowledged. */
function MasterCaution() {
  const { critical, warning } = attention.value;
  const next = nextIncident.value;
  return (
    <div class="caution" role="status" aria-label="Unacknowledged incidents">
      {critical ? (
        <a class="badge badge-critical pulse" href={`/r/${next?.run_id}`} data-testid="count-critical">
          <span aria-hidden="true">⬢</span> {critical} critical
        </a>
      ) : null}
      {warning ? (
        <a
          class="badge badge-warning"
          href={critical ? "/" : `/r/${next?.run_id}`}
          data-testid="count-warning"
        >
          <span aria-hidden="true">▲</span> {warning} caution
        </a>
      ) : null}
      {!critical && !warning ? <span class="quiet-word">Nothing unacknowledged</span> : null}
      <span class="live-count">{liveCount.value} live</span>
    </div>
  );
}

function ConnectionState() {
  const { state, attempts } = connection.value;
  const text = state === "live" ? "Live" : state === "connecting" ? "Connecting…" : `Not live (${attempts})`;
  return (
    <span class="connection" data-testid="connection" data-state={state} role="status">
      <i aria-hidden="true">{state === "live" ? "●" : "◌"}</i> {text}
    </span>
  );
}

function LostBanner() {
  const at = lastFrameAt.value ? formatClock(lastFrameAt.value / 1000) : "nothing yet";
  return (
    <div class="lost-banner" role="alert" data-testid="lost-banner">
      <span aria-hidden="true">◌</span> Not live: showing {at}. Reconnecting ({connection.value.attempts})…
    </div>
  );
}

function ThemeToggle() {
  const choice = themeChoice.value;
  const next = choice === "system" ? "light" : choice === "light" ? "dark" : "system";
  return (
    <button
      type="button"
      class="quiet"
      data-testid="theme-toggle"
      data-theme-choice={choice}
      aria-label={`Theme: ${choice}. Switch to ${next}`}
      title={`Theme: ${choice}`}
      onClick={() => chooseTheme(next)}
    >
      <span aria-hidden="true">{choice === "system" ? "◐" : choice === "light" ? "○" : "●"}</span>
      <span class="toggle-word"> {choice === "system" ? "Auto" : choice === "light" ? "Light" : "Dark"}</span>
    </button>
  );
}
