import { useSignal } from "@preact/signals";
import { errorText } from "../../net/api";
import type { NotifyChannel, NotifyRoute, NotifySeverity } from "../../net/types";
import {
  addChannel,
  changeChannel,
  deleteChannel,
  loadDeliveries,
  type TestResult,
  testChannel,
} from "../../state/notifications";
import { CopyButton } from "../../ui/CopyButton";
import { Delete, Field, Form } from "./Form";
import { Routes } from "./Routes";
import { SEVERITY_WORDS } from "./words";

interface Lists {
  channels: NotifyChannel[];
  routes: NotifyRoute[];
}

export function Channels({ channels, routes }: Lists) {
  return (
    <ul class="plain channels">
      {channels.map((channel) => (
        <li key={channel.id} class="channel" data-testid="channel" data-name={channel.name}>
          <Channel channel={channel} routes={routes.filter((one) => one.channel_id === channel.id)} />
        </li>
      ))}
    </ul>
  );
}

function Channel({ channel, routes }: { channel: NotifyChannel; routes: NotifyRoute[] }) {
  const editing = useSignal(false);
  const testing = useSignal(false);
  const result = useSignal<TestResult | null>(null);
  const failure = useSignal("");
  const attempt = async (act: () => Promise<unknown>) => {
    failure.value = "";
    try {
      await act();
    } catch (error) {
      failure.value = errorText(error);
    }
  };
  const test = async () => {
    testing.value = true;
    result.value = null;
    await attempt(async () => {
      result.value = await testChannel(channel.id);
    });
    testing.value = false;
  };
  return (
    <>
      <div class="channel-head">
        <h3>{channel.name}</h3>
        <span class="secondary">
          {channel.service} · <span class="mono">{channel.shown}</span>
          {channel.enabled ? "" : " · off"}
        </span>
        <div class="channel-actions">
          <button type="button" disabled={testing.value || !channel.enabled} onClick={() => void test()}>
            {testing.value ? "Sending…" : "Send a test"}
          </button>
          <button
            type="button"
            aria-expanded={editing.value}
            onClick={() => {
              editing.value = !editing.value;
            }}
          >
            Edit
          </button>
          <button
            type="button"
            onClick={() => void attempt(() => changeChannel(channel.id, { enabled: !channel.enabled }))}
          >
            {channel.enabled ? "Turn off" : "Turn on"}
          </button>
          <Delete
            what={`${channel.name} and its routes`}
            onDelete={() =>
              attempt(async () => {
                await deleteChannel(channel.id);
                await loadDeliveries();
              })
            }
          />
        </div>
      </div>
      <p role="status" class="test-result" data-testid="test-result">
        {result.value?.ok ? `✓ Delivered after ${result.value.seconds} s.` : ""}
        {result.value && !result.value.ok ? `✗ Not delivered: ${result.value.error}` : ""}
      </p>
      {failure.value ? <p role="alert">{failure.value}</p> : null}
      {editing.value ? (
        <EditChannel
          channel={channel}
          onDone={() => {
            editing.value = false;
          }}
        />
      ) : null}
      <Routes channel={channel} routes={routes} />
    </>
  );
}

function EditChannel({ channel, onDone }: { channel: NotifyChannel; onDone: () => void }) {
  const name = useSignal(channel.name);
  const url = useSignal("");
  return (
    <Form
      label={`Edit ${channel.name}`}
      submit="Save"
      onCancel={onDone}
      onSubmit={async () => {
        const change = { name: name.value, ...(url.value.trim() ? { url: url.value.trim() } : {}) };
        await changeChannel(channel.id, change);
        onDone();
      }}
    >
      <Field label="Name" value={name.value} onInput={(text) => (name.value = text)} />
      <Field
        label="New address"
        value={url.value}
        hint="Leave it empty to keep the one it has, which is never shown."
        secret
        optional
        onInput={(text) => (url.value = text)}
      />
    </Form>
  );
}

/** The form is open while there is no channel at all. */
export function AddChannel({ first, allowLocal }: { first: boolean; allowLocal: boolean }) {
  const open = useSignal(false);
  const name = useSignal("");
  const url = useSignal("");
  const severity = useSignal<NotifySeverity>("warning");
  const key = useSignal("");
  const close = () => {
    open.value = false;
    name.value = "";
    url.value = "";
  };
  return (
    <>
      {key.value ? <SigningKey text={key.value} onDone={() => (key.value = "")} /> : null}
      {open.value || (first && !key.value) ? (
        <Form
          label="Add a channel"
          submit="Add"
          onCancel={first ? undefined : close}
          onSubmit={async () => {
            const made = await addChannel(name.value, url.value.trim(), severity.value);
            key.value = made.signing_key ?? "";
            close();
          }}
        >
          <h3>Add a channel</h3>
          <Field
            label="Name"
            value={name.value}
            placeholder="team chat"
            onInput={(text) => (name.value = text)}
          />
          <Field
            label="Address"
            value={url.value}
            placeholder="https://hooks.slack.com/… or ntfy://topic"
            secret
            hint={
              "The webhook address that Slack, Discord or Teams shows, an apprise address (ntfy://topic, " +
              "tgram://token/chat, mailto://user:password@gmail.com, pagerduty://key@service, …), or " +
              "https://… of your own program, which gets signed JSON. " +
              (allowLocal ? "" : "Addresses in your own network need NANWATCH_ALLOW_LOCAL_WEBHOOKS=1.")
            }
            onInput={(text) => (url.value = text)}
          />
          <label class="field">
            <span>Send</span>
            <select
              value={severity.value}
              onChange={(event) => {
                severity.value = event.currentTarget.value as NotifySeverity;
              }}
            >
              <option value="warning">{SEVERITY_WORDS.warning}, of every project</option>
              <option value="critical">{SEVERITY_WORDS.critical}, of every project</option>
            </select>
          </label>
        </Form>
      ) : (
        <p>
          <button
            type="button"
            class="primary"
            onClick={() => {
              open.value = true;
              key.value = "";
            }}
          >
            Add a channel…
          </button>
        </p>
      )}
    </>
  );
}

function SigningKey({ text, onDone }: { text: string; onDone: () => void }) {
  return (
    <div class="signing-key" role="status" data-testid="signing-key">
      <p>
        <strong>Keep this key:</strong> your program checks with it that a message is from here (Standard
        Webhooks). It is shown this once.
      </p>
      <div class="snippet">
        <code>{text}</code> <CopyButton text={text} />
      </div>
      <button type="button" onClick={onDone}>
        I have it
      </button>
    </div>
  );
}
