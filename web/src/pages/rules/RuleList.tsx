import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Limits, Rule, RuleLimit, RulesAnswer } from "../../net/rules";
import { ENABLED, effective, limitsOf, setLimit, switchRule, wrongOf } from "../../state/rules";
import { mayControl } from "../../state/session";

interface Known {
  project: string;
  /** Of every project. */
  below: Limits;
  /** Of the text at hand. */
  own: Limits;
  locked: boolean;
}

/** Every rule with its switch, in groups. `wanted`: the one that a link asked for. */
export function RuleList({ answer, wanted }: { answer: RulesAnswer; wanted: string }) {
  const { project, below } = answer;
  // Of a text that does not fit nobody knows what it says: switches wait.
  const locked = wrongOf(project) !== null || !mayControl.value;
  const known = { project, below, own: limitsOf(project), locked };
  const groups = [...new Set(answer.rules.map((rule) => rule.group))];
  return (
    <div class="rule-groups">
      {groups.map((group) => (
        <section key={group} class="card rule-group" aria-label={group}>
          <h2>{group}</h2>
          <ul class="plain">
            {answer.rules
              .filter((rule) => rule.group === group)
              .map((rule) => (
                <RuleRow key={rule.name} rule={rule} known={known} wanted={rule.name === wanted} />
              ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

function RuleRow({ rule, known, wanted }: { rule: Rule; known: Known; wanted: boolean }) {
  const open = useSignal(wanted);
  const row = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (wanted) row.current?.scrollIntoView({ block: "center" });
  }, [wanted]);
  const on = effective(rule, ENABLED, known.below, known.own, known.project);
  return (
    <li ref={row} class={wanted ? "rule rule-wanted" : "rule"} data-testid={`rule-${rule.name}`}>
      <label class="switch">
        <input
          type="checkbox"
          role="switch"
          checked={on.value === "true"}
          aria-checked={on.value === "true"}
          disabled={known.locked}
          aria-label={`${rule.title}: on`}
          onChange={(event) => switchRule(known.project, rule, known.below, event.currentTarget.checked)}
        />
        <span aria-hidden="true" class="switch-word">
          {on.value === "true" ? "On" : "Off"}
        </span>
      </label>
      <div class="rule-words">
        <h3>
          {rule.title} <small class="mono">{rule.name}</small>
        </h3>
        <p>{rule.text}</p>
        <Changes rule={rule} known={known} />
      </div>
      <button
        type="button"
        class="quiet"
        aria-expanded={open.value}
        aria-label={`Limits of ${rule.title}`}
        onClick={() => {
          open.value = !open.value;
        }}
      >
        {open.value ? "Hide limits" : "Limits"}
      </button>
      {open.value ? <LimitTable rule={rule} known={known} /> : null}
    </li>
  );
}

/** What is not as packaged, in one line. */
function Changes({ rule, known }: { rule: Rule; known: Known }) {
  const names = [ENABLED, ...rule.limits.map((one) => one.name)];
  const words = names.flatMap((name) => {
    const now = effective(rule, name, known.below, known.own, known.project);
    if (now.from === "packaged" || (name === ENABLED && now.value === "true")) return [];
    const what = name === ENABLED ? "off" : `${name} ${now.value}`;
    return [now.from === "every" && known.project ? `${what} (every project)` : what];
  });
  if (!words.length) return null;
  return <p class="rule-changes">Changed: {words.join(", ")}</p>;
}

function LimitTable({ rule, known }: { rule: Rule; known: Known }) {
  return (
    <table class="data rule-limits">
      <thead>
        <tr>
          <th scope="col">limit</th>
          <th scope="col">value</th>
          <th scope="col">packaged</th>
          <th scope="col">why this number</th>
        </tr>
      </thead>
      <tbody>
        {rule.limits.map((limit) => (
          <tr key={limit.name}>
            <th scope="row" class="mono">
              {limit.name}
            </th>
            <td>
              <LimitInput rule={rule} limit={limit} known={known} />
            </td>
            <td class="mono" data-label="packaged">
              {limit.value}
            </td>
            <td class="limit-source">{limit.source}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Taken over when one leaves the field or presses Enter; empty goes back to what counts anyway. */
function LimitInput({ rule, limit, known }: { rule: Rule; limit: RuleLimit; known: Known }) {
  const now = effective(rule, limit.name, known.below, known.own, known.project);
  const without = effective(rule, limit.name, known.below, {}, known.project);
  const take = (text: string) => {
    const value = text.trim();
    if (value === now.value) return;
    const same = value === "" || Number(value) === Number(without.value);
    setLimit(known.project, rule.name, limit.name, same ? null : value);
  };
  return (
    <input
      type="text"
      inputMode="decimal"
      class="mono"
      value={now.value}
      placeholder={without.value}
      disabled={known.locked}
      aria-label={`${limit.name} of ${rule.title}`}
      spellcheck={false}
      onChange={(event) => take(event.currentTarget.value)}
    />
  );
}
