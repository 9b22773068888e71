import { useEffect } from "preact/hooks";
import { live } from "../net/live";
import { loadDeliveries, loadOverview, overview, overviewFailure } from "../state/notifications";
import { isAdmin, session } from "../state/session";
import { subject } from "../state/title";
import { AddChannel, Channels } from "./notify/Channels";
import { DeliveryLog } from "./notify/DeliveryLog";
import { Desktop } from "./notify/Desktop";

const LOOK_MS = 10_000;

/** Who is told of incidents: this browser, channels, and what became of every message. */
export function Notifications() {
  subject.value = "Notifications";
  const admin = isAdmin.value;
  useEffect(() => {
    void loadDeliveries();
    if (admin) void loadOverview();
    const timer = setInterval(() => void loadDeliveries(), LOOK_MS);
    const stop = live.listen((frame) => {
      if (frame.type === "incident") setTimeout(() => void loadDeliveries(), 2000);
    });
    return () => {
      clearInterval(timer);
      stop();
    };
  }, [admin]);
  return (
    <div class="notify">
      <h1>Notifications</h1>
      <Desktop />
      <section class="card notify-card" aria-labelledby="channels-title">
        <h2 id="channels-title">Channels</h2>
        {admin ? <Admin /> : <OnlyAdmins />}
      </section>
      <DeliveryLog />
    </div>
  );
}

function Admin() {
  if (overviewFailure.value) return <p role="alert">{overviewFailure.value}</p>;
  const known = overview.value;
  if (!known) return <p class="secondary">Loading…</p>;
  return (
    <>
      <Channels channels={known.channels} routes={known.routes} />
      <AddChannel first={!known.channels.length} allowLocal={known.allow_local} />
    </>
  );
}

function OnlyAdmins() {
  if (!session.value) return <p class="secondary">Loading…</p>;
  return (
    <p class="secondary" data-testid="only-admins">
      You are signed in as “{session.value.role}”. Channels are set up by an admin; a link for one is printed
      by <code>nanwatch login</code> on the server’s machine.
    </p>
  );
}
