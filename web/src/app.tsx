import { useEffect, useErrorBoundary } from "preact/hooks";
import { signedOut } from "./net/signals";
import { Audit } from "./pages/Audit";
import { IncidentPage } from "./pages/Incident";
import { Login, NotSignedIn } from "./pages/Login";
import { NotFound } from "./pages/NotFound";
import { Notifications } from "./pages/Notifications";
import { Rules } from "./pages/Rules";
import { RunPage } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { Storage } from "./pages/Storage";
import { Wall } from "./pages/Wall";
import { route } from "./router";
import { startDesktop } from "./state/desktop";
import { startDeliveries } from "./state/notifications";
import { loadSession } from "./state/session";
import { startWall } from "./state/wall";
import { Shell } from "./ui/Shell";

let started = false;

/** The socket is opened once somebody is signed in, never for the login page. */
async function start(): Promise<void> {
  await loadSession();
  if (started || signedOut.peek()) return;
  started = true;
  startDesktop();
  startWall();
  startDeliveries();
}

export function App() {
  const { path } = route.value;
  const login = path === "/login";
  useEffect(() => {
    if (!login) void start();
  }, [login]);
  if (login) return <Login />;
  if (signedOut.value) return <NotSignedIn />;
  return (
    <Shell>
      <Page path={path} key={path} />
    </Shell>
  );
}

function Page({ path }: { path: string }) {
  const [error, retry] = useErrorBoundary();
  if (error)
    return (
      <section class="card notice-card" role="alert">
        <h1>This page could not be shown</h1>
        <p>{String(error instanceof Error ? error.message : error)}</p>
        <button type="button" onClick={retry}>
          Show it again
        </button>
      </section>
    );
  if (path === "/") return <Wall />;
  if (path === "/runs") return <Runs />;
  if (path === "/audit") return <Audit />;
  if (path === "/settings/notifications") return <Notifications />;
  if (path === "/settings/storage") return <Storage />;
  if (path === "/settings/rules") return <Rules />;
  const run = /^\/r\/([^/]+)\/?$/.exec(path);
  if (run) return <RunPage id={decodeURIComponent(run[1]!)} />;
  const incident = /^\/a\/([^/]+)\/?$/.exec(path);
  if (incident) return <IncidentPage id={decodeURIComponent(incident[1]!)} />;
  return <NotFound />;
}
