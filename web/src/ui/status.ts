import type { RunSummary } from "../net/types";
import { formatAge } from "./format";

/** What is known of the process, in words. Never "crashed" without an exit report. */
export function statusText(run: RunSummary, age: number): { mark: string; text: string; detail: string } {
  switch (run.status) {
    case "live":
      return { mark: "●", text: "Live", detail: "" };
    case "stalled":
      return {
        mark: "◌",
        text: "Stalled",
        detail: "The process answers, but no new step has come. Nothing is lost yet.",
      };
    case "lost":
      return {
        mark: "◌",
        text: `Lost contact ${formatAge(age)} ago`,
        detail: "It may still be training; it keeps its data and sends it when it is back.",
      };
    case "ended":
      return endText(run);
  }
}

function endText(run: RunSummary): { mark: string; text: string; detail: string } {
  const reason = run.end_reason.replaceAll("_", " ").replace(/:\s*$/, ""); // an exception without a text
  if (run.exit_code !== null && run.exit_code !== 0)
    return { mark: "✖", text: `Exited (${run.exit_code})${reason ? `: ${reason}` : ""}`, detail: "" };
  const finished = reason === "" || reason === "finished";
  return { mark: "✓", text: finished ? "Finished" : `Ended: ${reason}`, detail: "" };
}
