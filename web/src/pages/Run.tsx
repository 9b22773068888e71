import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { Chart, sourceOf } from "../charts/Chart";
import { loadPlotly } from "../charts/plot";
import type { Panel, Source } from "../panels/panel";
import { type Group, groupsOf } from "../panels/registry";
import type { Draft } from "../state/commands";
import { RunStore } from "../state/run";
import { subject } from "../state/title";
import { setGroup, view } from "../state/view";
import { severityRank } from "../ui/severity";
import { Banner } from "./run/Banner";
import { Confirm } from "./run/Confirm";
import { Controls, currentLrs } from "./run/Controls";
import { EventRail } from "./run/EventRail";
import { Findings } from "./run/Forensics";
import { Head, Vitals } from "./run/Head";
import { Itself, Measured } from "./run/Itself";
import { Ranks } from "./run/Ranks";
import { RepairedBanner } from "./run/Repaired";
import { RulesRan } from "./run/RulesRan";
import { Stored } from "./run/Stored";
import { Toolbar } from "./run/Toolbar";

export function RunPage({ id }: { id: string }) {
  const store = useMemo(() => new RunStore(id), [id]);
  useEffect(() => {
    store.start();
    // The chart library comes while the run is being asked for, not after it.
    void loadPlotly();
    return () => store.stop();
  }, [store]);
  useSignalEffect(() => {
    store.show({ zoom: view.value.zoom, follow: view.value.follow });
    subject.value = store.detail.value?.name ?? "";
  });
  const asked = useSignal<{ change: Draft; trigger: HTMLElement } | null>(null);
  const detail = store.detail.value;
  if (!detail)
    return store.loaded.value ? (
      <section class="card notice-card" role="alert">
        <h1>This run cannot be shown</h1>
        <p>{store.failure.value || "The server knows no such run."}</p>
        <p>
          <a href="/runs">All runs</a>
        </p>
      </section>
    ) : (
      <p class="secondary">Loading…</p>
    );
  const ask = (change: Draft, trigger: HTMLElement) => {
    if (!asked.peek()) asked.value = { change, trigger };
  };
  const incidents = [...store.incidents.value.values()].sort(
    (a, b) => severityRank(b.severity) - severityRank(a.severity) || b.opened_at - a.opened_at,
  );
  const open = incidents.filter((one) => one.state !== "resolved");
  const over = incidents.filter((one) => one.state === "resolved");
  return (
    <div class="run">
      <Head store={store} detail={detail} />
      <Ranks detail={detail} />
      {open.map((incident) => (
        <Banner
          key={incident.id}
          incident={incident}
          detail={detail}
          ask={ask}
          onChange={(one) => store.putIncident(one)}
        />
      ))}
      <RepairedBanner store={store} />
      <Vitals store={store} detail={detail} />
      <div class="run-body">
        <div class="run-main">
          <Toolbar store={store} />
          <EventRail store={store} />
          <Charts store={store} />
        </div>
        <aside class="run-side">
          <Controls store={store} detail={detail} ask={ask} />
          {over.length ? (
            <section class="card" aria-label="Earlier incidents">
              <h2>Earlier incidents</h2>
              <ul class="plain">
                {over.slice(0, 10).map((one) => (
                  <li key={one.id}>
                    <a href={`/a/${one.id}`}>{one.title}</a>
                  </li>
                ))}
              </ul>
            </section>
          ) : null}
          <Findings store={store} />
          <Itself store={store} detail={detail} />
          <Measured coverage={detail.coverage} />
          <RulesRan detail={detail} />
          <Facts title="Configuration" facts={detail.config} />
          <Facts title="Environment" facts={detail.facts} />
          <Stored detail={detail} />
        </aside>
      </div>
      {asked.value ? (
        <Confirm
          change={asked.value.change}
          trigger={asked.value.trigger}
          detail={detail}
          lrs={currentLrs(store)}
          onDone={(command) => {
            if (command) store.putCommand(command);
            asked.value = null;
          }}
        />
      ) : null}
    </div>
  );
}

function Charts({ store }: { store: RunStore }) {
  const detail = store.detail.value!;
  // Only the list of series decides which charts there are; points come through the charts themselves.
  const key = detail.series.map((one) => one.id).join();
  const groups = useMemo(() => groupsOf(detail), [key]);
  const source = sourceOf(store)!;
  return (
    <>
      {groups.map((group) => (
        <ChartGroup key={group.id} group={group} store={store} source={source} />
      ))}
    </>
  );
}

/** Charts that belong together. Those of a closed group do not exist, so they cost nothing. */
function ChartGroup({ group, store, source }: { group: Group; store: RunStore; source: Source }) {
  const shown = group.title ? group.panels.filter((panel) => hasData(panel, source)) : group.panels;
  if (!shown.length) return null;
  const charts = (
    <div class="charts">
      {shown.map((panel) => (
        <PanelSlot key={panel.id} panel={panel} store={store} source={source} />
      ))}
    </div>
  );
  if (!group.title) return charts;
  const open = view.value.groups[group.id] ?? group.open;
  return (
    <section class="chart-group" aria-label={group.title} data-testid={`group-${group.id}`}>
      <h2>
        <button
          type="button"
          class="group-toggle"
          aria-expanded={open}
          onClick={() => setGroup(group.id, !open)}
        >
          <span aria-hidden="true">{open ? "▾" : "▸"}</span> {group.title}{" "}
          <small>{shown.length === 1 ? "1 chart" : `${shown.length} charts`}</small>
        </button>
      </h2>
      {open ? charts : null}
    </section>
  );
}

/** A chart, a quiet note where the run could send the data, or nothing. */
function PanelSlot({ panel, store, source }: { panel: Panel; store: RunStore; source: Source }) {
  if (hasData(panel, source)) return <Chart panel={panel} store={store} />;
  if (!panel.missing) return null;
  return (
    <figure class="chart chart-missing" data-testid={panel.testId}>
      <h3>{panel.title}</h3>
      <p class="secondary">{panel.missing}</p>
    </figure>
  );
}

function hasData(panel: Panel, source: Source): boolean {
  try {
    return panel.select(source) !== null;
  } catch {
    // The chart's own error card says what is wrong.
    return true;
  }
}

function Facts({ title, facts }: { title: string; facts: Record<string, string> }) {
  const entries = Object.entries(facts ?? {});
  if (!entries.length) return null;
  return (
    <details class="card">
      <summary>
        {title} <small>{entries.length}</small>
      </summary>
      <dl class="facts">
        {entries.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{String(value)}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
