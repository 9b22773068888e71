import type { Severity } from "../net/types";
import { SEVERITY } from "./severity";

/** Shape, word and fill together. */
export function SeverityBadge({
  severity,
  state,
  testId,
}: {
  severity: Severity;
  state?: string;
  testId?: string;
}) {
  const { shape, word } = SEVERITY[severity];
  const fresh = severity === "critical" && state === "firing";
  return (
    <span
      class={`badge badge-${severity}${fresh ? " pulse" : ""}`}
      data-testid={testId}
      data-severity={severity}
      data-state={state}
    >
      <span aria-hidden="true">{shape}</span> {word}
      {state === "acknowledged" ? <small> acknowledged</small> : null}
      {state === "snoozed" ? <small> snoozed</small> : null}
      {state === "resolved" ? <small> resolved</small> : null}
    </span>
  );
}
