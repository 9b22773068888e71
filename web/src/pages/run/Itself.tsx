import type { Coverage, RunDetail } from "../../net/types";
import { problemsNow } from "../../state/reports";
import type { RunStore } from "../../state/run";
import { formatStep } from "../../ui/format";

/** What went wrong inside nanwatch: nothing at all to see in a normal run. */
export function Itself({ store, detail }: { store: RunStore; detail: RunDetail }) {
  const problems = problemsNow(store.reports.problems.value);
  const dropped = Object.entries(detail.beat?.dropped ?? {}).filter(([, count]) => count > 0);
  if (!problems.length && !dropped.length) return null;
  const errors = problems.reduce((sum, one) => sum + one.count, 0);
  return (
    <section class="card" data-testid="itself" aria-label="nanwatch itself">
      <h2>nanwatch itself</h2>
      {problems.length ? (
        <details>
          <summary data-testid="internal-errors">
            nanwatch had {formatStep(errors)} internal {errors === 1 ? "error" : "errors"}:{" "}
            {problems[0]!.kind}
            {problems.length > 1 ? ` and ${problems.length - 1} more kinds` : ""}
          </summary>
          <ul class="plain">
            {problems.slice(0, 20).map((one) => (
              <li key={`${one.rank} ${one.kind}`}>
                {one.kind}
                {one.rank ? `, rank ${one.rank}` : ""}, {formatStep(one.count)} ×
                <pre class="wrap">{one.text}</pre>
              </li>
            ))}
          </ul>
          <p class="small-print">The training was not touched; what could not be measured is missing here.</p>
        </details>
      ) : null}
      {dropped.length ? (
        <>
          <p>Points that were not sent:</p>
          <dl class="facts" data-testid="dropped">
            {dropped.map(([reason, count]) => (
              <div key={reason}>
                <dt>{reason}</dt>
                <dd>{formatStep(count)}</dd>
              </div>
            ))}
          </dl>
        </>
      ) : null}
    </section>
  );
}

/** What is measured and how often, as the run says; what is not comes last, with its reason. */
export function Measured({ coverage }: { coverage: Coverage | null }) {
  const entries = Object.entries(coverage?.what ?? {});
  if (!coverage || !entries.length) return null;
  const missing = (said: string) => /^(off|not)\b/i.test(said);
  entries.sort((a, b) => Number(missing(a[1])) - Number(missing(b[1])) || (a[0] < b[0] ? -1 : 1));
  const not = entries.filter(([, said]) => missing(said)).length;
  return (
    <details class="card" data-testid="coverage">
      <summary>
        What is measured <small>{not ? `${entries.length - not}, and ${not} not` : entries.length}</small>
      </summary>
      <dl class="facts facts-words">
        {entries.map(([name, said]) => (
          <div key={name} data-measured={!missing(said)}>
            <dt>{name}</dt>
            <dd>{said}</dd>
          </div>
        ))}
      </dl>
      <p class="small-print">
        As of step {formatStep(coverage.step)}. How often follows the cost: nanwatch measures itself.
      </p>
    </details>
  );
}
