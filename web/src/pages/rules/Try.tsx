import { useSignal } from "@preact/signals";
import { errorText } from "../../net/api";
import type { Backtest, TriedIncident, TriedRun } from "../../net/rules";
import { backtest, cancelBacktest, changeWords, doneShare, running, tryRules } from "../../state/backtest";
import { textOf, wrongFrom, wrongOf } from "../../state/rules";
import { mayControl } from "../../state/session";
import { formatClock, formatShare, formatStep } from "../../ui/format";
import { SeverityBadge } from "../../ui/SeverityBadge";
import { lookAt } from "./lines";

const COUNTS = [5, 10, 20, 50];

/** What the limits at hand would have found on runs that are over, beside what was found. */
export function Try({ project }: { project: string }) {
  const last = useSignal(10);
  const failure = useSignal("");
  const job = backtest.value;
  const attempt = async (act: () => Promise<void>) => {
    failure.value = "";
    try {
      await act();
    } catch (error) {
      failure.value = errorText(error);
      const line = wrongFrom(error)?.line;
      if (line) lookAt.value = line;
    }
  };
  if (!mayControl.value && !job) return null;
  return (
    <section class="card rules-try" aria-labelledby="try-title" data-testid="rules-try">
      <h2 id="try-title">Try before you save</h2>
      {mayControl.value ? (
        <div class="try-line">
          <label>
            On the last{" "}
            <select
              value={String(last.value)}
              onChange={(event) => {
                last.value = Number(event.currentTarget.value);
              }}
            >
              {COUNTS.map((count) => (
                <option key={count} value={String(count)}>
                  {count} runs
                </option>
              ))}
            </select>
          </label>
          <button
            type="button"
            data-testid="rules-try-button"
            disabled={running.value || wrongOf(project) !== null}
            onClick={() => void attempt(() => tryRules(project, textOf(project), last.value))}
          >
            Try on the last {last.value} runs
          </button>
          {running.value ? (
            <button type="button" onClick={() => void attempt(cancelBacktest)}>
              Cancel
            </button>
          ) : null}
        </div>
      ) : null}
      {failure.value ? (
        <p role="alert" class="form-failure">
          {failure.value}
        </p>
      ) : null}
      {job ? <Outcome job={job} project={project} /> : null}
    </section>
  );
}

function Outcome({ job, project }: { job: Backtest; project: string }) {
  const quiet = job.runs.filter((run) => !run.incidents.length);
  const told = job.runs.filter((run) => run.incidents.length);
  return (
    <>
      <Progress job={job} />
      {about(job, project) ? <p class="small-print">{about(job, project)}</p> : null}
      {job.runs.length && job.state !== "running" ? (
        <p data-testid="try-sentence">
          <strong>It {job.sentence}.</strong>
          {changeWords(job.runs) ? ` Against what the runs have: ${changeWords(job.runs)}.` : ""}
        </p>
      ) : null}
      {job.state === "done" && !job.runs.length ? <p>There is no run to try it on yet.</p> : null}
      {told.length ? (
        <ul class="plain tried" data-testid="tried-runs">
          {told.map((run) => (
            <li key={run.id} data-run={run.id}>
              <Tried run={run} several={!job.project} />
            </li>
          ))}
        </ul>
      ) : null}
      {quiet.length ? <Quiet runs={quiet} /> : null}
    </>
  );
}

function Progress({ job }: { job: Backtest }) {
  const of = job.total === null ? "starting" : `${job.runs.length} of ${job.total} runs`;
  const share = job.share ? `, ${formatShare(job.share)}` : "";
  const at = job.name ? ` · ${job.name}${share}` : "";
  if (job.state === "running")
    return (
      <div class="try-progress" role="status" data-testid="try-progress">
        <progress value={doneShare(job)} max={1} aria-label="Runs judged" />
        <span>
          {of}
          {at}
        </span>
      </div>
    );
  if (job.state === "cancelled") return <p role="status">Cancelled: {of} judged.</p>;
  if (job.state === "failed")
    return (
      <p role="alert" class="form-failure">
        Not finished, {of} judged: {job.error}
      </p>
    );
  return null;
}

/** Of whom and of what it is, where that is not plain. */
function about(job: Backtest, project: string): string {
  const where = job.project ? `project ${job.project}` : "every project";
  const words = [
    job.project === project ? "" : `Of ${where}`,
    job.project === project && job.text !== textOf(project) ? "The limits have been changed since" : "",
    job.ended_at
      ? `tried ${formatClock(job.ended_at)} by ${job.by}`
      : `begun ${formatClock(job.started_at)} by ${job.by}`,
  ];
  const text = words.filter(Boolean).join(" · ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function Tried({ run, several }: { run: TriedRun; several: boolean }) {
  return (
    <>
      <p class="tried-head">
        <a href={`/r/${run.id}`}>{run.name}</a>{" "}
        <small>
          {several ? `${run.project} · ` : ""}
          {run.fired === 1 ? "1 incident" : `${run.fired} incidents`} under these limits
        </small>
      </p>
      <ul class="plain tried-incidents">
        {run.incidents.map((one, i) => (
          <li
            key={`${one.id}${one.onset_step}${String(i)}`}
            data-state={one.state}
            data-testid="tried-incident"
          >
            <TriedRow one={one} run={run} />
          </li>
        ))}
      </ul>
      {run.more ? <p class="small-print">and {run.more} more</p> : null}
      {run.dropped ? (
        <p class="small-print">
          {formatStep(run.dropped)} older points were dropped by retention and not judged.
        </p>
      ) : null}
      {run.failures.map((text) => (
        <p key={text} class="small-print">
          A rule failed: {text}
        </p>
      ))}
    </>
  );
}

const STATES: Record<TriedIncident["state"], [mark: string, word: string]> = {
  new: ["+", "new"],
  gone: ["−", "goes away"],
  same: ["=", "as before"],
  unknown: ["?", "cannot be told"],
};

function TriedRow({ one, run }: { one: TriedIncident; run: TriedRun }) {
  const [mark, word] = STATES[one.state];
  const around = Math.max(100, Math.round((one.fired_step - one.onset_step) * 2));
  const zoom = `?x0=${Math.max(0, one.onset_step - around)}&x1=${one.fired_step + around}`;
  const moved = one.state === "same" && one.fired_before !== null && one.fired_before !== one.fired_step;
  const milder = one.state === "same" && one.severity_before !== one.severity;
  return (
    <>
      <span class={`try-state try-${one.state}`}>
        <span aria-hidden="true">{mark}</span> {word}
      </span>
      <SeverityBadge severity={one.severity} />
      <span class="tried-what">
        <a href={one.id ? `/a/${one.id}` : `/r/${run.id}${zoom}`}>{one.title}</a>{" "}
        <small>
          since step {formatStep(one.onset_step)}, {one.state === "gone" ? "told" : "would be told"} at step{" "}
          {formatStep(one.fired_step)}
          {moved ? ` instead of ${formatStep(one.fired_before)}` : ""}
          {milder ? `; was ${one.severity_before === "warning" ? "caution" : one.severity_before}` : ""}
          {one.why ? `: ${one.why}` : ""} · <span class="mono">{one.rules.join(", ")}</span>
        </small>
      </span>
    </>
  );
}

function Quiet({ runs }: { runs: TriedRun[] }) {
  return (
    <details>
      <summary>
        {runs.length === 1 ? "1 run" : `${runs.length} runs`} without an incident, then and now
      </summary>
      <p class="small-print tried-quiet">
        {runs.map((run) => (
          <a key={run.id} href={`/r/${run.id}`}>
            {run.name}
          </a>
        ))}
      </p>
    </details>
  );
}
