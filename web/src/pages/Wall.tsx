import { useMemo, useRef } from "preact/hooks";
import { route, setSearch } from "../router";
import { now } from "../state/clock";
import { subject } from "../state/title";
import { ageOf, type WallRun, wallKnown, wallRuns } from "../state/wall";
import { CopyButton } from "../ui/CopyButton";
import { formatAge, formatDateTime, formatNumber, formatShare, formatStep } from "../ui/format";
import { SeverityBadge } from "../ui/SeverityBadge";
import { Spark } from "../ui/Spark";
import { compareRuns, isSick } from "../ui/severity";
import { statusText } from "../ui/status";

const RESORT_AFTER_MS = 10_000;

export function Wall() {
  subject.value = "";
  const query = new URLSearchParams(route.value.search).get("q") ?? "";
  const all = [...wallRuns.value.values()];
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = all.filter(({ run }) =>
    words.every((word) => `${run.name} ${run.project} ${run.status} ${run.id}`.toLowerCase().includes(word)),
  );
  const order = useSteadyOrder(matching);
  const sick = order.filter(({ run }) => isSick(run));
  const well = order.filter(({ run }) => !isSick(run) && run.status !== "ended");
  const ended = order.filter(({ run }) => run.status === "ended");
  if (!wallKnown.value) return <p class="secondary">Loading…</p>;
  if (!all.length) return <FirstRun />;
  return (
    <div class="wall">
      <div class="wall-bar">
        <h1>All runs</h1>
        <label class="filter">
          <span class="visually-hidden">Filter runs</span>
          <input
            type="search"
            placeholder="Filter by name, project or state"
            value={query}
            onInput={(event) => {
              const text = event.currentTarget.value;
              setSearch(text ? `?q=${encodeURIComponent(text)}` : "", false);
            }}
          />
        </label>
        {words.length ? (
          <span class="secondary">
            {matching.length} of {all.length} match
          </span>
        ) : null}
      </div>
      {sick.length ? (
        <section aria-label="Runs that need a look" class="tiles">
          {sick.map((one) => (
            <Tile key={one.run.id} one={one} />
          ))}
        </section>
      ) : null}
      {!sick.length && well.length ? (
        <p class="all-well">Nothing is wrong in {well.length} live runs.</p>
      ) : null}
      {well.length ? <Rows title="Healthy" runs={well} /> : null}
      {ended.length ? <Ended runs={ended} /> : null}
    </div>
  );
}

/** Runs move at most every 10 s, and never under the pointer or the keyboard focus. */
function useSteadyOrder(runs: WallRun[]): WallRun[] {
  const kept = useRef<{ ids: string[]; at: number }>({ ids: [], at: 0 });
  return useMemo(() => {
    const known = new Set(kept.current.ids);
    const changed = runs.length !== known.size || runs.some(({ run }) => !known.has(run.id));
    const touched = document.querySelector(".tile:hover, .tile:focus-within") !== null;
    const due = Date.now() - kept.current.at > RESORT_AFTER_MS && !touched;
    if (changed || due) {
      const sorted = [...runs].sort((a, b) => compareRuns(a.run, b.run));
      kept.current = { ids: sorted.map(({ run }) => run.id), at: Date.now() };
      return sorted;
    }
    const byId = new Map(runs.map((one) => [one.run.id, one]));
    return kept.current.ids.map((id) => byId.get(id)!);
  }, [runs]);
}

function trendOf(trend: number | undefined): { sign: string; word: string } {
  if (trend === undefined || !Number.isFinite(trend) || trend === 0) return { sign: "→", word: "steady" };
  return trend > 0 ? { sign: "↑", word: "rising" } : { sign: "↓", word: "falling" };
}

/** NaN on the wall means unknown, except where the loss itself just was NaN. */
function lossText({ vitals, spark }: WallRun): string {
  const loss = vitals.loss ?? Number.NaN;
  if (!Number.isNaN(loss)) return formatNumber(loss);
  return spark.length && Number.isNaN(spark[spark.length - 1]!) && (vitals.nonfinite_total ?? 0) > 0
    ? "NaN"
    : "—";
}

/** The same for the gradient: a run that clips and has met non-finite values has a norm that is NaN. */
function gradText({ vitals }: WallRun): string {
  const norm = vitals.grad_norm ?? Number.NaN;
  if (!Number.isNaN(norm)) return formatNumber(norm);
  const clips = !Number.isNaN(vitals.clip_threshold ?? Number.NaN);
  return clips && (vitals.nonfinite_total ?? 0) > 0 ? "NaN" : "—";
}

function known(value: number | undefined, format: (v: number) => string): string {
  return value === undefined || Number.isNaN(value) ? "—" : format(value);
}

function Tile({ one }: { one: WallRun }) {
  const { run, vitals, spark } = one;
  const age = ageOf(one, now.value);
  const status = statusText(run, age);
  const trend = trendOf(vitals.loss_trend);
  const silent = run.status === "lost" || run.status === "stalled";
  const applied = vitals.applied_share ?? Number.NaN;
  return (
    <a
      class={`tile tile-${run.severity ?? "none"}${silent ? " tile-silent" : ""}`}
      href={`/r/${run.id}`}
      data-testid={`tile-${run.id}`}
    >
      <header>
        <strong class="tile-name">{run.name}</strong>
        {run.severity ? (
          <SeverityBadge severity={run.severity} state={run.incident?.state} testId="tile-severity" />
        ) : (
          <span class="badge badge-none" data-testid="tile-severity" data-severity="none">
            {status.mark} {run.status === "lost" ? "Lost contact" : status.text}
          </span>
        )}
      </header>
      <p class="tile-why">
        {run.incident?.title ?? status.detail}
        {run.incident && silent ? ` ${status.mark} ${status.text}` : ""}
      </p>
      <dl class="tile-vitals">
        <div class="big">
          <dt>loss</dt>
          <dd>
            {lossText(one)}{" "}
            {Number.isFinite(vitals.loss ?? Number.NaN) ? <span title={trend.word}>{trend.sign}</span> : null}
          </dd>
        </div>
        <div class="big">
          <dt>grad / clip</dt>
          <dd>
            {gradText(one)}
            <small> / {known(vitals.clip_threshold, formatNumber)}</small>
          </dd>
        </div>
        <div>
          <dt>clipped</dt>
          <dd>{known(vitals.clip_share, formatShare)}</dd>
        </div>
        <div class={applied < 0.5 ? "standout" : ""}>
          <dt>updates applied</dt>
          <dd>{known(applied, formatShare)}</dd>
        </div>
        <div>
          <dt>step/s</dt>
          <dd>{known(vitals.steps_per_s, formatNumber)}</dd>
        </div>
        <div>
          <dt>heartbeat</dt>
          <dd>{formatAge(age)}</dd>
        </div>
      </dl>
      <Spark values={spark} />
      <footer>
        step {formatStep(vitals.step ?? run.last_step)}
        <span>{run.project}</span>
      </footer>
    </a>
  );
}

function Rows({ title, runs }: { title: string; runs: WallRun[] }) {
  return (
    <section class="rows-block">
      <h2>
        {title} <small>{runs.length}</small>
      </h2>
      <div class="rows">
        <div class="row row-names" aria-hidden="true">
          {["run", "loss", "grad / clip", "updates applied", "step/s", "step", "loss so far"].map((name) => (
            <span key={name}>{name}</span>
          ))}
        </div>
        {runs.map((one) => (
          <Row key={one.run.id} one={one} />
        ))}
      </div>
    </section>
  );
}

function Row({ one }: { one: WallRun }) {
  const { run, vitals } = one;
  const trend = trendOf(vitals.loss_trend);
  return (
    <a class="row" href={`/r/${run.id}`} data-testid={`tile-${run.id}`}>
      <span class="row-name">
        <strong>{run.name}</strong> <small>{run.project}</small>
      </span>
      <Cell name="loss" value={`${lossText(one)} ${trend.sign}`} />
      <Cell name="grad / clip" value={`${gradText(one)} / ${known(vitals.clip_threshold, formatNumber)}`} />
      <Cell name="applied" value={known(vitals.applied_share, formatShare)} />
      <Cell name="step/s" value={known(vitals.steps_per_s, formatNumber)} />
      <Cell name="step" value={formatStep(vitals.step ?? run.last_step)} />
      <Spark values={one.spark} height={24} />
    </a>
  );
}

function Cell({ name, value }: { name: string; value: string }) {
  return (
    <span class="cell">
      <small>{name}</small> {value}
    </span>
  );
}

function Ended({ runs }: { runs: WallRun[] }) {
  const newest = [...runs].sort((a, b) => (b.run.ended_at ?? 0) - (a.run.ended_at ?? 0)).slice(0, 12);
  return (
    <section class="rows-block">
      <h2>
        Recently ended <small>{runs.length}</small>
      </h2>
      <div class="rows">
        {newest.map((one) => {
          const status = statusText(one.run, 0);
          return (
            <a
              class="row row-ended"
              key={one.run.id}
              href={`/r/${one.run.id}`}
              data-testid={`tile-${one.run.id}`}
            >
              <span class="row-name">
                <strong>{one.run.name}</strong> <small>{one.run.project}</small>
              </span>
              <span>
                {status.mark} {status.text}
              </span>
              <span>
                {one.run.severity ? (
                  <SeverityBadge
                    severity={one.run.severity}
                    state={one.run.incident?.state}
                    testId="tile-severity"
                  />
                ) : null}
              </span>
              <Cell name="step" value={formatStep(one.run.last_step)} />
              <Cell name="ended" value={formatDateTime(one.run.ended_at ?? 0)} />
              <Spark values={one.spark} height={24} />
            </a>
          );
        })}
      </div>
    </section>
  );
}

const SNIPPET = 'import nanwatch\nrun = nanwatch.init(project="my-project")';

function FirstRun() {
  return (
    <section class="card first-run">
      <h1>No runs yet</h1>
      <p>Put two lines in front of your training loop. Everything else is found by itself.</p>
      <div class="snippet">
        <pre>{SNIPPET}</pre>
        <CopyButton text={SNIPPET} />
      </div>
      <p>Or change nothing and start it this way:</p>
      <div class="snippet">
        <pre>nanwatch run train.py</pre>
        <CopyButton text="nanwatch run train.py" />
      </div>
      <p>To see what trouble looks like, watch a real training go wrong:</p>
      <div class="snippet">
        <pre>nanwatch demo</pre>
        <CopyButton text="nanwatch demo" />
      </div>
      <p class="secondary" role="status">
        Waiting for the first step. This page shows it by itself.
      </p>
    </section>
  );
}
