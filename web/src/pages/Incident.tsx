import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { errorText, getJson } from "../net/api";
import { live } from "../net/live";
import type { Incident } from "../net/types";
import type { Draft } from "../state/commands";
import { mostTelling } from "../state/forensics";
import { RunStore } from "../state/run";
import { subject } from "../state/title";
import { formatClock, formatDateTime, formatStep } from "../ui/format";
import { SeverityBadge } from "../ui/SeverityBadge";
import { Banner } from "./run/Banner";
import { Confirm } from "./run/Confirm";
import { Controls, currentLrs } from "./run/Controls";
import { ForensicsCard } from "./run/Forensics";
import { limitsLink } from "./run/RulesRan";

/** One incident in full: banner, evidence and how it came about. */
export function IncidentPage({ id }: { id: string }) {
  const incident = useSignal<Incident | null>(null);
  const store = useSignal<RunStore | null>(null);
  const asked = useSignal<{ change: Draft; trigger: HTMLElement } | null>(null);
  const failure = useSignal("");
  useEffect(() => {
    const load = async () => {
      try {
        incident.value = await getJson<Incident>(`/api/incidents/${encodeURIComponent(id)}`);
        if (store.peek()) return;
        // The run's learning rates and commands: so that one can act from here.
        store.value = new RunStore(incident.value.run_id);
        store.value.start();
      } catch (error) {
        if (!incident.peek()) failure.value = errorText(error);
      }
    };
    void load();
    const stops = [
      live.listen((frame) => {
        const one = frame.header.incident as Incident | undefined;
        if (frame.type === "incident" && one?.id === id) incident.value = one;
      }),
      live.onReturn(() => void load()),
    ];
    return () => {
      for (const stop of stops) stop();
      store.peek()?.stop();
    };
  }, [id]);
  const one = incident.value;
  subject.value = one?.title ?? "Incident";
  if (failure.value)
    return (
      <section class="card notice-card" role="alert">
        <h1>This incident cannot be shown</h1>
        <p>{failure.value}</p>
      </section>
    );
  if (!one) return <p class="secondary">Loading…</p>;
  const detail = store.value?.detail.value ?? null;
  const ask = (change: Draft, trigger: HTMLElement) => {
    if (!asked.peek()) asked.value = { change, trigger };
  };
  const last = store.value ? Math.max(one.last_step, store.value.lastStep) : one.last_step;
  const around = Math.max(100, Math.round((one.last_step - one.onset_step) * 0.5));
  const zoom = `?x0=${Math.max(0, one.onset_step - around)}&x1=${one.last_step + around}`;
  return (
    <div class="incident">
      <p class="crumbs">
        <a href={`/r/${one.run_id}`}>{one.run_name}</a> · opened {formatDateTime(one.opened_at)} ·{" "}
        <a href={`/r/${one.run_id}${zoom}`}>Show these steps in the charts</a>
        {one.findings[0] ? (
          <a href={limitsLink(one.findings[0].rule, detail?.project)}>This rule’s limits</a>
        ) : null}
      </p>
      <Banner
        incident={one}
        detail={detail}
        ask={ask}
        full
        onChange={(changed) => {
          incident.value = changed;
        }}
      />
      {mostTelling(one.forensics).map((found) => (
        <ForensicsCard key={`${found.step} ${found.rank} ${found.at}`} found={found} lastStep={last} />
      ))}
      <section class="card" aria-label="How it came about">
        <h2>How it came about</h2>
        <ol class="timeline">
          <li>
            <span class="when">step {formatStep(one.onset_step)}</span>
            <span>Onset: first step at which the trouble shows</span>
          </li>
          {[...one.findings]
            .sort((a, b) => a.step - b.step)
            .map((finding, i) => (
              <li key={`${finding.rule}${finding.step}${String(i)}`}>
                <span class="when">
                  step {formatStep(finding.step)} <small>{formatClock(finding.time)}</small>
                </span>
                <span>
                  <SeverityBadge severity={finding.severity} /> <strong>{finding.title}</strong>{" "}
                  <small class="mono">
                    <a href={limitsLink(finding.rule, detail?.project)} title="This rule’s limits">
                      {finding.rule}
                    </a>
                    {[finding.scope, finding.layer].filter(Boolean).map((part) => ` · ${part}`)}
                  </small>
                  <br />
                  {finding.message}
                </span>
              </li>
            ))}
          {one.acknowledged_by ? (
            <li>
              <span class="when">acknowledged</span>
              <span>by {one.acknowledged_by}</span>
            </li>
          ) : null}
          {one.resolved_at !== null ? (
            <li>
              <span class="when">step {formatStep(one.resolved_step)}</span>
              <span>Over at {formatDateTime(one.resolved_at)}</span>
            </li>
          ) : null}
        </ol>
      </section>
      {store.value && detail ? <Controls store={store.value} detail={detail} ask={ask} /> : null}
      <p>
        <a class="button" href={`/r/${one.run_id}${zoom}`}>
          Open {one.run_name}
        </a>
      </p>
      {asked.value && store.value && detail ? (
        <Confirm
          change={asked.value.change}
          trigger={asked.value.trigger}
          detail={detail}
          lrs={currentLrs(store.value)}
          onDone={(command) => {
            if (command) store.value?.putCommand(command);
            asked.value = null;
          }}
        />
      ) : null}
    </div>
  );
}
