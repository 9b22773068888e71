import { useSignal } from "@preact/signals";
import { errorText, postJson } from "../../net/api";
import type { Incident, RunDetail, Suggestion } from "../../net/types";
import { type Draft, draft, draftLabel } from "../../state/commands";
import { forensicsTitle, mostTelling } from "../../state/forensics";
import { mayRespond } from "../../state/session";
import { keepIncident } from "../../state/wall";
import { CopyButton } from "../../ui/CopyButton";
import { formatClock, formatStep, formatText } from "../../ui/format";
import { SeverityBadge } from "../../ui/SeverityBadge";

interface Props {
  incident: Incident;
  detail: RunDetail | null;
  onChange: (incident: Incident) => void;
  ask?: (change: Draft, trigger: HTMLElement) => void;
  /** The incident's own page shows everything; the run page only what helps to act. */
  full?: boolean;
}

const SHOWN_AT_FIRST = 4;

/** What is wrong, since when, why we think so, and what to try. */
export function Banner({ incident, detail, onChange, ask, full }: Props) {
  const open = useSignal(Boolean(full));
  // Headings follow the title: it is the page's own on the incident page.
  const Sub = full ? "h2" : "h3";
  return (
    <section
      class={`banner banner-${incident.severity} banner-${incident.state}`}
      aria-label={`Incident: ${incident.title}`}
      data-testid="incident-banner"
      data-incident={incident.id}
      data-state={incident.state}
    >
      <header class="banner-head">
        <SeverityBadge severity={incident.severity} state={incident.state} />
        {full ? (
          <h1 data-testid="incident-title">{incident.title}</h1>
        ) : (
          <h2 data-testid="incident-title">
            <a href={`/a/${incident.id}`}>{incident.title}</a>
          </h2>
        )}
        <Actions incident={incident} onChange={onChange} />
      </header>
      <p class="banner-facts">
        Since step {formatStep(incident.onset_step)}; seen at step {formatStep(incident.fired_step)},{" "}
        {formatClock(incident.opened_at)}
        {incident.count > 1 ? `; ${formatStep(incident.count)} findings` : ""}
        {incident.reopened ? `; reopened ${incident.reopened} times` : ""}
        {incident.resolved_step !== null ? `; over since step ${formatStep(incident.resolved_step)}` : ""}
        {incident.acknowledged_by ? `; acknowledged by ${incident.acknowledged_by}` : ""}
        {incident.state === "snoozed" ? `; quiet ${snoozeWords(incident.snoozed_until)}` : ""}
      </p>
      <div class="banner-body">
        <div class="banner-why">
          <p>{incident.what}</p>
          <p data-testid="incident-why">{incident.why}</p>
          {full ? null : <Origin incident={incident} />}
          {incident.forecast ? (
            <p>
              <strong>{incident.forecast}</strong>
            </p>
          ) : null}
          {open.value ? <EvidenceList incident={incident} full={full} /> : null}
          {!full ? (
            <button
              type="button"
              class="quiet"
              aria-expanded={open.value}
              onClick={() => {
                open.value = !open.value;
              }}
            >
              {open.value
                ? "Hide evidence"
                : `Evidence (${incident.evidence.length + incident.evidence_for.length})`}
            </button>
          ) : null}
        </div>
        {incident.suggestions.length ? (
          <div class="banner-try">
            <Sub class="subhead">Try</Sub>
            <Suggestions incident={incident} detail={detail} ask={ask} full={full} />
          </div>
        ) : null}
      </div>
    </section>
  );
}

/** The forensics that say most in one line; the incident's own page has the rest. */
function Origin({ incident }: { incident: Incident }) {
  const [found] = mostTelling(incident.forensics);
  if (!found) return null;
  return (
    <p data-testid="incident-origin">
      <strong>{forensicsTitle(found)}</strong> at step {formatStep(found.step)}.{" "}
      <a href={`/a/${incident.id}`}>How it was found</a>
    </p>
  );
}

/** The best first. On the run page the rest is folded, except what a button does at once. */
function Suggestions({ incident, detail, ask, full }: Omit<Props, "onChange">) {
  const all = useSignal(Boolean(full));
  const listed = incident.suggestions.filter(
    (one, i) => all.value || i < SHOWN_AT_FIRST || isOffered(one, detail),
  );
  const hidden = incident.suggestions.length - listed.length;
  return (
    <>
      <ol class="suggestions">
        {(hidden > 1 ? listed : incident.suggestions).map((one, i) => (
          <SuggestionRow
            key={one.text}
            one={one}
            first={i === 0}
            incident={incident}
            detail={detail}
            ask={ask}
          />
        ))}
      </ol>
      {hidden > 1 ? (
        <button
          type="button"
          class="quiet"
          data-testid="more-suggestions"
          onClick={() => {
            all.value = true;
          }}
        >
          {hidden} more to try
        </button>
      ) : null}
    </>
  );
}

function isOffered(one: Suggestion, detail: RunDetail | null): boolean {
  return one.command !== "" && Boolean(detail?.controls.includes(one.command));
}

function SuggestionRow({
  one,
  first,
  incident,
  detail,
  ask,
}: {
  one: Suggestion;
  first: boolean;
  incident: Incident;
  detail: RunDetail | null;
  ask?: Props["ask"];
}) {
  const offered = isOffered(one, detail);
  const reachable = detail?.status === "live" || detail?.status === "stalled";
  return (
    <li data-testid="suggestion" data-treats={one.treats} data-command={one.command}>
      <span class="suggestion-text">{one.text}</span>{" "}
      <span class={`tag tag-${one.treats}`}>{one.treats === "cause" ? "treats cause" : "masks symptom"}</span>
      {offered && ask && mayRespond.value ? (
        <button
          type="button"
          class={first ? "primary" : ""}
          disabled={!reachable}
          data-testid="suggestion-button"
          onClick={(event) =>
            ask(
              draft(one.command, one.args, draftLabel(one.command, one.args, detail!.name), incident.id),
              event.currentTarget,
            )
          }
        >
          {buttonWords(one, detail!)}…
        </button>
      ) : null}
      {one.copy ? (
        <span class="copy-line">
          <code>{one.copy}</code> <CopyButton text={one.copy} />
        </span>
      ) : null}
    </li>
  );
}

function snoozeWords(until: number | null): string {
  return until === null || until < 0 ? "until it gets worse" : `until ${formatClock(until)}`;
}

/** Verb and object, with the value filled in. */
function buttonWords(one: Suggestion, detail: RunDetail): string {
  const scope = one.args.scope ? ` of ${one.args.scope}` : "";
  switch (one.command) {
    case "scale_lr":
      return `LR${scope} ×${one.args.factor}`;
    case "set_lr":
      return `Set LR${scope} to ${one.args.lr}`;
    case "checkpoint":
      return "Save checkpoint";
    case "stop":
    case "arm_tracing":
      return draftLabel(one.command, one.args, detail.name);
    default:
      return one.command;
  }
}

function EvidenceList({ incident, full }: { incident: Incident; full?: boolean }) {
  return (
    <div class="evidence">
      {incident.evidence.length ? (
        <dl>
          {incident.evidence.map((one) => (
            <div key={`${one.label}${one.scope}${one.layer}`}>
              <dt>
                {one.label}
                {one.scope || one.layer ? (
                  <small> {[one.scope, one.layer].filter(Boolean).join(" ")}</small>
                ) : null}
              </dt>
              <dd>
                {formatText(one.value)}
                {one.limit ? <small> limit {formatText(one.limit)}</small> : null}
              </dd>
            </div>
          ))}
        </dl>
      ) : null}
      <ForAgainst title="For" texts={incident.evidence_for} full={full} />
      <ForAgainst title="Against" texts={incident.evidence_against} full={full} />
      <p class="small-print">
        {incident.syndrome.replaceAll("-", " ")}, confidence {Math.round(incident.confidence * 100)} %
      </p>
    </div>
  );
}

function ForAgainst({ title, texts, full }: { title: string; texts: string[]; full?: boolean }) {
  const Sub = full ? "h2" : "h3";
  if (!texts.length) return null;
  return (
    <>
      <Sub class="subhead">{title}</Sub>
      <ul>
        {texts.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </>
  );
}

function Actions({ incident, onChange }: { incident: Incident; onChange: (incident: Incident) => void }) {
  const failure = useSignal("");
  if (incident.state === "resolved" || !mayRespond.value) return null;
  const act = async (what: string, body: unknown) => {
    try {
      const changed = await postJson<Incident>(
        `/api/incidents/${encodeURIComponent(incident.id)}/${what}`,
        body,
      );
      keepIncident(changed);
      onChange(changed);
    } catch (error) {
      failure.value = errorText(error);
    }
  };
  return (
    <div class="banner-actions">
      {incident.state === "firing" ? (
        <button type="button" data-testid="button-acknowledge" onClick={() => void act("acknowledge", {})}>
          Acknowledge
        </button>
      ) : null}
      <label>
        <span class="visually-hidden">Snooze</span>
        <select
          data-testid="snooze"
          value=""
          onChange={(event) => {
            const value = event.currentTarget.value;
            if (value === "worse") void act("snooze", { until_worse: true });
            else if (value) void act("snooze", { seconds: Number(value) });
          }}
        >
          <option value="">Snooze…</option>
          <option value="1800">30 minutes</option>
          <option value="7200">2 hours</option>
          <option value="worse">until worse</option>
        </select>
      </label>
      <button type="button" data-testid="button-resolve" onClick={() => void act("resolve", {})}>
        Resolve
      </button>
      {failure.value ? <p role="alert">{failure.value}</p> : null}
    </div>
  );
}
