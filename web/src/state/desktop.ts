import { signal } from "@preact/signals";
import icon from "../assets/favicon.svg?url";
import { live } from "../net/live";
import { clockOffset } from "../net/signals";
import type { Incident, Severity } from "../net/types";
import { navigate } from "../router";
import { type DesktopChoice, type DesktopText, desktopText, Told } from "./news";

/** Desktop notifications of this browser: asked for by a button, told by the live socket. */

/** `insecure`: plain HTTP from another machine; `missing`: this browser has none for pages. */
export type DesktopState = "insecure" | "missing" | "default" | "granted" | "denied";

const KEY = "nanwatch.desktop";

export const desktopChoice = signal<DesktopChoice>(stored());
export const desktopState = signal<DesktopState>(stateNow());

function stored(): DesktopChoice {
  try {
    const value = localStorage.getItem(KEY);
    return value === "warning" || value === "critical" ? value : "off";
  } catch {
    return "off";
  }
}

function stateNow(): DesktopState {
  if (!window.isSecureContext) return "insecure";
  return "Notification" in window ? Notification.permission : "missing";
}

export function chooseDesktop(choice: DesktopChoice): void {
  desktopChoice.value = choice;
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

/** Must be called by a click: browsers ask nobody otherwise. */
export async function askPermission(): Promise<void> {
  await Notification.requestPermission();
  desktopState.value = stateNow();
  if (desktopState.value === "granted" && desktopChoice.value === "off") chooseDesktop("warning");
}

const shown = new Map<string, Notification>();

function show(tag: string, text: DesktopText, severity: Severity | null, path: string): void {
  try {
    const options: NotificationOptions & { renotify?: boolean } = {
      body: text.body,
      tag,
      icon,
      // The same incident replaces itself; a worse one may sound again.
      renotify: true,
      requireInteraction: severity === "critical",
    };
    const made = new Notification(text.title, options);
    shown.set(tag, made);
    made.onclick = () => {
      window.focus();
      navigate(path);
      made.close();
    };
    made.onclose = () => {
      if (shown.get(tag) === made) shown.delete(tag);
    };
  } catch {
    // Phones have the object and refuse it to pages.
    desktopState.value = "missing";
  }
}

/** What the button shows. */
export function showSample(): void {
  const text = { title: "nanwatch: notifications work", body: "Incidents will look like this." };
  show("nanwatch-sample", text, null, "/settings/notifications");
}

export function startDesktop(): void {
  const told = new Told();
  const openedAt = Date.now() / 1000;
  live.listen((frame) => {
    if (frame.type !== "incident") return;
    const incident = frame.header.incident as Incident;
    if (incident.state !== "firing") shown.get(incident.id)?.close();
    const news = told.isNews(incident, desktopChoice.value, openedAt + clockOffset.value);
    if (!news || stateNow() !== "granted") return;
    show(incident.id, desktopText(incident), incident.severity, `/a/${incident.id}`);
  });
}
