import { connection } from "../../net/signals";
import type { RunDetail } from "../../net/types";
import { now } from "../../state/clock";
import type { RunStore } from "../../state/run";
import { vitalsOf } from "../../state/vitals";
import { ageOf, wallRuns } from "../../state/wall";
import { formatAge, formatDateTime, formatShare, formatStep, formatUtc, parseMetric } from "../../ui/format";
import { SeverityBadge } from "../../ui/SeverityBadge";
import { statusText } from "../../ui/status";

/** Name and what is known of the process: live, stalled, lost, or ended. */
export function Head({ store, detail }: { store: RunStore; detail: RunDetail }) {
  void store.version.value;
  const wall = wallRuns.value.get(detail.id);
  const age = wall ? ageOf(wall, now.value) : now.value - detail.last_seen_at;
  const status = statusText(detail, age);
  // What this page knows of the process is as old as its connection.
  const silent = connection.value.state === "lost" && detail.status !== "ended";
  const overhead = parseMetric(detail.beat?.overhead ?? "");
  const dropped = Object.values(detail.beat?.dropped ?? {}).reduce((sum, n) => sum + n, 0);
  return (
    <header class="run-head">
      <div class="run-title">
        <h1>{detail.name}</h1>
        {detail.severity ? <SeverityBadge severity={detail.severity} state={detail.incident?.state} /> : null}
        <span class={`status status-${detail.status}`} data-testid="run-status" data-status={detail.status}>
          <span aria-hidden="true">{silent ? "◌" : status.mark}</span> {silent ? "was " : ""}
          {silent ? status.text.toLowerCase() : status.text}
        </span>
      </div>
      <p class="run-facts">
        <span>{detail.project}</span>
        <span title={formatUtc(detail.started_at)}>started {formatDateTime(detail.started_at)}</span>
        <span>
          step <b data-testid="vital-step">{formatStep(store.lastStep)}</b>
        </span>
        {detail.status !== "ended" ? (
          <span>
            heartbeat <b data-testid="vital-heartbeat">{formatAge(age)}</b>
          </span>
        ) : null}
        {overhead ? <span>nanwatch costs {formatShare(overhead)} of a step</span> : null}
        {(detail.beat?.queued ?? 0) > 20 ? (
          <span>{formatStep(detail.beat?.queued)} frames waiting</span>
        ) : null}
        {dropped ? <span>{formatStep(dropped)} points lost on the way</span> : null}
        {status.detail ? <span class="run-truth">{status.detail}</span> : null}
      </p>
    </header>
  );
}

export function Vitals({ store, detail }: { store: RunStore; detail: RunDetail }) {
  void store.version.value;
  const wall = wallRuns.value.get(detail.id);
  const vitals = vitalsOf({
    detail,
    seriesOf: (...kinds) => store.seriesOf(...kinds),
    tail: (id, n) => store.tail(id, n),
    wall: wall?.vitals ?? {},
  });
  const silent = detail.status === "lost" || detail.status === "stalled";
  return (
    <dl class={silent ? "vitals vitals-old" : "vitals"} aria-label="Vital signs">
      {vitals.map((vital) => (
        <div key={vital.name} class={vital.standout ? "vital standout" : "vital"}>
          <dt>{vital.label}</dt>
          <dd data-testid={`vital-${vital.name}`}>{vital.value}</dd>
          {vital.note ? <dd class="vital-note">{vital.note}</dd> : null}
        </div>
      ))}
    </dl>
  );
}
