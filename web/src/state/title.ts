import { effect, signal } from "@preact/signals";
import quietIcon from "../assets/favicon.svg?url";
import criticalIcon from "../assets/favicon-critical.svg?url";
import lostIcon from "../assets/favicon-lost.svg?url";
import warningIcon from "../assets/favicon-warning.svg?url";
import { connection } from "../net/signals";
import { dark } from "./theme";
import { attention } from "./wall";

/** What this page is about; empty on the wall. */
export const subject = signal("");

/** The tab tells the state also when the page is not in front. */
export function startFavicon(): void {
  effect(() => {
    const { critical, warning } = attention.value;
    const count = critical ? `(${critical}!) ` : warning ? `(${warning}) ` : "";
    document.title = `${count}${subject.value ? `${subject.value} · ` : ""}nanwatch`;
    const icon = document.getElementById("favicon") as HTMLLinkElement | null;
    if (!icon) return;
    const lost = connection.value.state === "lost";
    icon.href = lost ? lostIcon : critical ? criticalIcon : warning ? warningIcon : quietIcon;
  });
  effect(() => {
    document.documentElement.dataset.theme = dark.value ? "dark" : "light";
  });
}
