import { useSignal } from "@preact/signals";
import { errorText } from "../../net/api";
import type { NotifyChannel, NotifyRoute, NotifySeverity } from "../../net/types";
import { deleteRoute, saveRoute } from "../../state/notifications";
import { wallRuns } from "../../state/wall";
import { Delete, Field, Form } from "./Form";
import { routeWords, SEVERITY_WORDS } from "./words";

/** What goes to a channel: a line for each route. */
export function Routes({ channel, routes }: { channel: NotifyChannel; routes: NotifyRoute[] }) {
  /** Id of the route that is being edited; `new` for a new one. */
  const editing = useSignal("");
  const failure = useSignal("");
  const done = () => {
    editing.value = "";
  };
  return (
    <>
      <ul class="plain routes" aria-label={`What goes to ${channel.name}`}>
        {routes.map((route) => (
          <li key={route.id} data-testid="route">
            <span>{routeWords(route)}</span>
            <span class="route-actions">
              <button
                type="button"
                class="quiet"
                aria-expanded={editing.value === route.id}
                onClick={() => {
                  editing.value = editing.value === route.id ? "" : route.id;
                }}
              >
                Change
              </button>
              <Delete
                what="this route"
                quiet
                onDelete={async () => {
                  try {
                    await deleteRoute(route.id);
                  } catch (error) {
                    failure.value = errorText(error);
                  }
                }}
              />
            </span>
            {editing.value === route.id ? <EditRoute channel={channel} route={route} onDone={done} /> : null}
          </li>
        ))}
      </ul>
      {failure.value ? <p role="alert">{failure.value}</p> : null}
      {routes.length ? null : <p class="secondary">Nothing goes here: add a route.</p>}
      {editing.value === "new" ? (
        <EditRoute channel={channel} route={null} onDone={done} />
      ) : (
        <button
          type="button"
          class="quiet"
          onClick={() => {
            editing.value = "new";
          }}
        >
          Add a route…
        </button>
      )}
    </>
  );
}

interface EditProps {
  channel: NotifyChannel;
  route: NotifyRoute | null;
  onDone: () => void;
}

function EditRoute({ channel, route, onDone }: EditProps) {
  const project = useSignal(route?.project ?? "");
  const severity = useSignal<NotifySeverity>(route?.min_severity ?? "warning");
  const resolved = useSignal(route?.resolved ?? false);
  const enabled = useSignal(route?.enabled ?? true);
  const hushed = useSignal(Boolean(route?.quiet));
  const start = useSignal(route?.quiet?.start ?? "22:00");
  const end = useSignal(route?.quiet?.end ?? "07:00");
  const zone = useSignal(route?.quiet?.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone);
  const passes = useSignal(route?.quiet?.critical_passes ?? true);
  return (
    <Form
      label={route ? "Change the route" : `Add a route to ${channel.name}`}
      submit="Save"
      onCancel={onDone}
      onSubmit={async () => {
        const quiet = { start: start.value, end: end.value, zone: zone.value, critical_passes: passes.value };
        await saveRoute(route?.id ?? null, {
          channel_id: channel.id,
          project: project.value.trim(),
          min_severity: severity.value,
          resolved: resolved.value,
          quiet: hushed.value ? quiet : null,
          enabled: enabled.value,
        });
        onDone();
      }}
    >
      <Field
        label="Project"
        value={project.value}
        placeholder="every project"
        list="known-projects"
        optional
        onInput={(text) => (project.value = text)}
      />
      <datalist id="known-projects">
        {projects().map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <label class="field">
        <span>Send</span>
        <select
          value={severity.value}
          onChange={(event) => {
            severity.value = event.currentTarget.value as NotifySeverity;
          }}
        >
          <option value="warning">{SEVERITY_WORDS.warning}</option>
          <option value="critical">{SEVERITY_WORDS.critical}</option>
        </select>
      </label>
      <Check
        label="Also say when it is over"
        value={resolved.value}
        onChange={(on) => (resolved.value = on)}
      />
      <Check label="Quiet hours" value={hushed.value} onChange={(on) => (hushed.value = on)} />
      {hushed.value ? (
        <fieldset class="quiet-hours">
          <legend class="visually-hidden">Quiet hours</legend>
          <Field label="From" type="time" value={start.value} onInput={(text) => (start.value = text)} />
          <Field label="To" type="time" value={end.value} onInput={(text) => (end.value = text)} />
          <Field
            label="Time zone"
            value={zone.value}
            list="time-zones"
            onInput={(text) => (zone.value = text)}
          />
          <datalist id="time-zones">
            {Intl.supportedValuesOf("timeZone").map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
          <Check
            label="Critical incidents pass"
            value={passes.value}
            onChange={(on) => (passes.value = on)}
          />
        </fieldset>
      ) : null}
      {route ? (
        <Check label="This route is on" value={enabled.value} onChange={(on) => (enabled.value = on)} />
      ) : null}
    </Form>
  );
}

function Check({
  label,
  value,
  onChange,
}: {
  label: string;
  value: boolean;
  onChange: (on: boolean) => void;
}) {
  return (
    <label class="check">
      <input type="checkbox" checked={value} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

function projects(): string[] {
  return [...new Set([...wallRuns.value.values()].map((one) => one.run.project))].sort();
}
