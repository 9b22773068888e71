import { useEffect } from "preact/hooks";
import { route, setSearch } from "../router";
import { loadBacktest } from "../state/backtest";
import { answers, loadProjects, loadRules, projects, rulesFailure } from "../state/rules";
import { mayControl, session } from "../state/session";
import { subject } from "../state/title";
import { wallRuns } from "../state/wall";
import { formatDateTime, formatUtc } from "../ui/format";
import { Bar } from "./rules/Bar";
import { Editor, Packaged } from "./rules/Editor";
import { RuleList } from "./rules/RuleList";
import { Try } from "./rules/Try";

/** Limits of the rules, of every project or of one: switches, numbers, or the whole as a text. */
export function Rules() {
  subject.value = "Rules";
  const search = new URLSearchParams(route.value.search);
  const project = search.get("project") ?? "";
  useEffect(() => {
    void loadProjects();
    void loadBacktest();
  }, []);
  useEffect(() => void loadRules(project), [project]);
  const answer = answers.value.get(project);
  return (
    <div class="rules">
      <header class="rules-head">
        <h1>Rules</h1>
        <Projects project={project} />
        {answer ? <Changed at={answer.updated_at} by={answer.updated_by} /> : null}
      </header>
      {session.value && !mayControl.value ? (
        <p class="secondary" data-testid="rules-read-only">
          You are signed in as “{session.value.role}” and can look at the limits. Changing them takes the role
          “control”.
        </p>
      ) : (
        <p class="secondary">
          A rule that is off says nothing. Changes count from the next points on; what was found before stays.
        </p>
      )}
      {rulesFailure.value ? <p role="alert">{rulesFailure.value}</p> : null}
      {answer ? (
        <>
          <div class="rules-body">
            <RuleList key={project} answer={answer} wanted={search.get("rule") ?? ""} />
            <div class="rules-side">
              <Try project={project} />
              <Editor key={project} project={project} />
              <Packaged text={answer.packaged} />
            </div>
          </div>
          {mayControl.value ? <Bar key={project} project={project} /> : null}
        </>
      ) : rulesFailure.value ? null : (
        <p class="secondary">Loading…</p>
      )}
    </div>
  );
}

/** Every project first: what is set there counts wherever a project says nothing of its own. */
function Projects({ project }: { project: string }) {
  const own = new Map(projects.value.map((one) => [one.project, one.own_rules]));
  const onWall = [...wallRuns.value.values()].map((one) => one.run.project);
  const names = [...new Set([...own.keys(), ...onWall, project])].filter(Boolean).sort();
  const mark = (name: string) => (own.get(name) ? " · own limits" : "");
  return (
    <label class="rules-project">
      <span>Project</span>
      <select
        data-testid="rules-project"
        value={project}
        onChange={(event) => {
          const chosen = event.currentTarget.value;
          setSearch(chosen ? `?project=${encodeURIComponent(chosen)}` : "", true);
        }}
      >
        <option value="">Every project{mark("")}</option>
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
            {mark(name)}
          </option>
        ))}
      </select>
    </label>
  );
}

function Changed({ at, by }: { at: number | null; by: string }) {
  if (at === null) return <span class="secondary">Never changed</span>;
  return (
    <span class="secondary" title={formatUtc(at)} data-testid="rules-changed">
      Changed {formatDateTime(at)} by {by} · <a href="/audit">Audit</a>
    </span>
  );
}
