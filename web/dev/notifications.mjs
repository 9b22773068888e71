// Channels that were set up, and what became of messages about the made-up incidents.

const channel = (id, name, service, shown) => ({
  id,
  name,
  service,
  shown,
  enabled: true,
  signed: service === "Signed webhook",
  created_at: 1_800_000_000,
});

const route = (id, channel_id, change) => ({
  id,
  channel_id,
  project: "",
  min_severity: "warning",
  resolved: false,
  quiet: null,
  enabled: true,
  created_at: 1_800_000_000,
  ...change,
});

export const NOTIFICATIONS = {
  channels: [
    channel("c1", "team chat", "Slack", "slack://…"),
    channel("c2", "phone", "ntfy", "ntfy://…"),
    channel("c3", "ci", "Signed webhook", "https://ci.example.com/…"),
  ],
  routes: [
    route("r1", "c1", { resolved: true }),
    route("r2", "c2", {
      min_severity: "critical",
      quiet: { start: "22:00", end: "07:00", zone: "Europe/Berlin", critical_passes: true },
    }),
  ],
  allow_local: false,
};

const FATES = [
  { state: "sent", tries: 1 },
  { state: "merged", tries: 0, detail: "in the message of another" },
  { state: "waiting", tries: 3, detail: "it answered 500" },
  { state: "skipped", tries: 0, detail: "over before the quiet hours were" },
  { state: "failed", tries: 99, detail: "cannot connect (Connection refused)" },
];

export function deliveriesOf(incidents) {
  return incidents.map((one, i) => ({
    n: incidents.length - i,
    key: `${one.id}|${one.severity}|0|c1`,
    channel_id: "c1",
    channel: "team chat",
    run_id: one.run_id,
    run_name: one.run_name,
    incident_id: one.id,
    title: one.title,
    what: "firing",
    severity: one.severity,
    created_at: one.opened_at,
    due_at: one.opened_at + 900,
    done_at: one.opened_at + 2,
    detail: "",
    ...FATES[i % FATES.length],
  }));
}
