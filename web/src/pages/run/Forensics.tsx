import type { ComponentChildren } from "preact";
import type { Forensics, NonFinite } from "../../net/types";
import {
  forensicsTitle,
  mostTelling,
  nonFiniteWords,
  tracingWords,
  triggerWords,
} from "../../state/forensics";
import type { RunStore } from "../../state/run";
import { CopyButton } from "../../ui/CopyButton";
import { formatClock, formatStep } from "../../ui/format";

const NEWEST = 5;
/** On a narrow screen the list would push everything else away. */
const WIDE = window.matchMedia("(min-width: 1200px)").matches;

/** Where a non-finite value came from, in full. */
export function ForensicsCard({ found, lastStep }: { found: Forensics; lastStep: number }) {
  return (
    <section
      class="card forensics"
      data-testid="forensics"
      data-verdict={found.verdict}
      aria-label="Forensics"
    >
      <h2 data-testid="forensics-title">{forensicsTitle(found)}</h2>
      <Body found={found} lastStep={lastStep} />
    </section>
  );
}

/** What the SDK found in this run, the most telling first; nothing if it never had to look. */
export function Findings({ store }: { store: RunStore }) {
  void store.version.value;
  const forensics = mostTelling([...store.reports.forensics.value].reverse());
  const nonfinite = [...store.reports.nonfinite.value].reverse();
  if (!forensics.length && !nonfinite.length) return null;
  return (
    <section class="card forensics" data-testid="forensics-list" aria-label="Non-finite values">
      <h2>Non-finite values</h2>
      {forensics.slice(0, NEWEST).map((found, i) => (
        <details
          key={`${found.step} ${found.rank} ${found.at}`}
          open={i === 0 && WIDE}
          data-testid="forensics"
        >
          <summary data-testid="forensics-title">{forensicsTitle(found)}</summary>
          <Body found={found} lastStep={store.lastStep} />
        </details>
      ))}
      {forensics.length > NEWEST ? (
        <p class="small-print">and {forensics.length - NEWEST} that say less</p>
      ) : null}
      {nonfinite.length ? <Reports all={nonfinite} open={!forensics.length} /> : null}
    </section>
  );
}

function Body({ found, lastStep }: { found: Forensics; lastStep: number }) {
  const tracing = tracingWords(found, lastStep);
  const facts = Object.entries(found.facts);
  return (
    <>
      <p class="small-print">
        Step {formatStep(found.step)}, {formatClock(found.at)}
        {found.scope ? `, ${found.scope}` : ""}
        {found.rank ? `, rank ${found.rank}` : ""}; {triggerWords(found)}
      </p>
      {found.text ? <p>{found.text}</p> : null}
      <dl class="forensics-facts">
        <Row name="First in the forward pass">{found.first_forward}</Row>
        <Row name="First in the backward pass">{found.first_backward}</Row>
        <Row name="Produced it from finite inputs">{found.producers.join(", ")}</Row>
        <Row name="Only passed it on">{found.propagators.join(", ")}</Row>
      </dl>
      <Path name="Flight recorder" path={found.recorder_path} />
      <Path name="Checkpoint from before the update" path={found.checkpoint_path} />
      {found.recorder_path || found.checkpoint_path ? (
        <p class="small-print">These files lie on the training machine.</p>
      ) : null}
      {tracing ? <p data-testid="forensics-tracing">{tracing}</p> : null}
      {facts.length ? (
        <details>
          <summary>
            What was known then <small>{facts.length}</small>
          </summary>
          <dl class="facts">
            {facts.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </details>
      ) : null}
    </>
  );
}

function Row({ name, children }: { name: string; children: ComponentChildren }) {
  if (!children) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd class="mono">{children}</dd>
    </div>
  );
}

function Path({ name, path }: { name: string; path: string }) {
  if (!path) return null;
  return (
    <p class="path-line">
      <span>{name}</span>
      <code class="wrap">{path}</code>
      <CopyButton text={path} />
    </p>
  );
}

function Reports({ all, open }: { all: NonFinite[]; open: boolean }) {
  return (
    <details open={open} data-testid="nonfinite-reports">
      <summary>
        Where values were not finite <small>{all.length}</small>
      </summary>
      <ul class="plain">
        {all.slice(0, NEWEST).map((one) => (
          <li key={`${one.step} ${one.where} ${one.rank} ${one.at}`}>
            Step {formatStep(one.step)}
            {one.rank ? `, rank ${one.rank}` : ""}: {nonFiniteWords(one)}
            {one.layers.length ? <small class="mono"> {layerWords(one)}</small> : null}
          </li>
        ))}
      </ul>
      {all.length > NEWEST ? <p class="small-print">and {all.length - NEWEST} earlier</p> : null}
    </details>
  );
}

function layerWords(one: NonFinite): string {
  const more = one.nan + one.inf - 3;
  return one.layers.slice(0, 3).join(", ") + (more > 0 ? ` and ${formatStep(more)} more` : "");
}
