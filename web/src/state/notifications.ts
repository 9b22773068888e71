import { computed, signal } from "@preact/signals";
import { deleteJson, errorText, getJson, postJson, putJson } from "../net/api";
import { live } from "../net/live";
import type {
  Delivery,
  NotifyChannel,
  NotifyOverview,
  NotifyRoute,
  NotifySeverity,
  QuietHours,
} from "../net/types";

const BASE = "/api/notifications";
const LOOK_MS = 60_000;
/** Failures older than this are history. */
const RECENT_S = 86_400;

export const overview = signal<NotifyOverview | null>(null);
export const overviewFailure = signal("");
/** The newest deliveries. */
export const deliveries = signal<Delivery[]>([]);
export const deliveriesKnown = signal(false);

/** What has not arrived although it was tried more than once, newest first. */
export const failing = computed(() => failingOf(deliveries.value, Date.now() / 1000));

/** A channel that has taken something since is well again. */
export function failingOf(rows: Delivery[], now: number): Delivery[] {
  const well = new Set<string>();
  return rows.filter((row) => {
    if (row.state === "sent") well.add(row.channel_id);
    const tried = row.state === "failed" || (row.state === "waiting" && row.tries > 1);
    return tried && !well.has(row.channel_id) && now - row.created_at < RECENT_S;
  });
}

export async function loadOverview(): Promise<void> {
  try {
    overview.value = await getJson<NotifyOverview>(BASE);
    overviewFailure.value = "";
  } catch (error) {
    overviewFailure.value = errorText(error);
  }
}

export async function loadDeliveries(): Promise<void> {
  try {
    const answer = await getJson<{ deliveries: Delivery[] }>(`${BASE}/deliveries?limit=100`);
    deliveries.value = answer.deliveries;
    deliveriesKnown.value = true;
  } catch {
    // The connection banner says why nothing is here.
  }
}

/** Looked at once a minute, so that a channel that has died is seen on every page. */
export function startDeliveries(): void {
  void loadDeliveries();
  live.onReturn(() => void loadDeliveries());
  setInterval(() => {
    if (document.visibilityState === "visible") void loadDeliveries();
  }, LOOK_MS);
}

export interface MadeChannel extends NotifyChannel {
  signing_key: string | null;
}

export interface TestResult {
  ok: boolean;
  error: string;
  seconds: number;
}

export interface RouteDraft {
  channel_id: string;
  project: string;
  min_severity: NotifySeverity;
  resolved: boolean;
  quiet: QuietHours | null;
  enabled: boolean;
}

const id = encodeURIComponent;

async function then<T>(changed: Promise<T>): Promise<T> {
  const answer = await changed;
  await loadOverview();
  return answer;
}

export function addChannel(name: string, url: string, min_severity: NotifySeverity): Promise<MadeChannel> {
  return then(postJson<MadeChannel>(`${BASE}/channels`, { name, url, min_severity }));
}

export function changeChannel(
  channel: string,
  change: { name?: string; url?: string; enabled?: boolean },
): Promise<NotifyChannel> {
  return then(putJson<NotifyChannel>(`${BASE}/channels/${id(channel)}`, change));
}

export function deleteChannel(channel: string): Promise<unknown> {
  return then(deleteJson(`${BASE}/channels/${id(channel)}`));
}

export function testChannel(channel: string): Promise<TestResult> {
  return postJson<TestResult>(`${BASE}/channels/${id(channel)}/test`, {});
}

export function saveRoute(route: string | null, draft: RouteDraft): Promise<NotifyRoute> {
  const sent = route
    ? putJson<NotifyRoute>(`${BASE}/routes/${id(route)}`, draft)
    : postJson<NotifyRoute>(`${BASE}/routes`, draft);
  return then(sent);
}

export function deleteRoute(route: string): Promise<unknown> {
  return then(deleteJson(`${BASE}/routes/${id(route)}`));
}
