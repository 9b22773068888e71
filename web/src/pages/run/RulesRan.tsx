import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { getJson } from "../../net/api";
import type { RuleCoverage } from "../../net/rules";
import type { RunDetail } from "../../net/types";
import { rulesSummary, summaryWords } from "../../state/coverage";

const LOOK_MS = 15_000;

/** Where the limits of a rule are changed. */
export function limitsLink(rule: string, project: string | undefined): string {
  const query = new URLSearchParams();
  if (project) query.set("project", project);
  if (rule) query.set("rule", rule);
  return `/settings/rules?${query}`;
}

/** Which rules judge this run, and why others cannot; looked at again while it is live. */
export function RulesRan({ detail }: { detail: RunDetail }) {
  const rows = useSignal<RuleCoverage[]>([]);
  const over = detail.status === "ended";
  useEffect(() => {
    const load = async () => {
      try {
        rows.value = (await getJson<{ rules: RuleCoverage[] }>(`/api/runs/${detail.id}/rules`)).rules;
      } catch {
        // The connection banner says why nothing is here.
      }
    };
    void load();
    if (over) return;
    const timer = setInterval(() => document.visibilityState === "visible" && void load(), LOOK_MS);
    return () => clearInterval(timer);
  }, [detail.id, over]);
  if (!rows.value.length) return null;
  const summary = rulesSummary(rows.value);
  return (
    <details class="card" data-testid="rules-ran">
      <summary>
        Rules <small>{summaryWords(summary)}</small>
      </summary>
      <dl class="rules-ran">
        {summary.not.map(({ why, rules }) => (
          <Group
            key={why}
            title={`${rules.length} could not: ${why}`}
            rules={rules}
            project={detail.project}
          />
        ))}
        <Group
          title={`${summary.ran.length} ran`}
          rules={summary.ran.map((one) => one.rule)}
          project={detail.project}
        />
      </dl>
      <p class="small-print">
        Names lead to the limits of {detail.project}. <a href={limitsLink("", detail.project)}>All of them</a>
      </p>
    </details>
  );
}

function Group({ title, rules, project }: { title: string; rules: string[]; project: string }) {
  if (!rules.length) return null;
  return (
    <div data-testid="rules-group">
      <dt>{title.replace(/^(\d+) could not: switched off/, "$1 switched off")}</dt>
      <dd>
        {rules.map((rule) => (
          <a key={rule} href={limitsLink(rule, project)} class="mono">
            {rule}
          </a>
        ))}
      </dd>
    </div>
  );
}
