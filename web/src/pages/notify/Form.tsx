import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { errorText } from "../../net/api";

interface FormProps {
  label: string;
  submit: string;
  onSubmit: () => Promise<void>;
  onCancel?: () => void;
  children: ComponentChildren;
}

/** Shows why the server refused, and can be sent again. */
export function Form({ label, submit, onSubmit, onCancel, children }: FormProps) {
  const busy = useSignal(false);
  const failure = useSignal("");
  return (
    <form
      class="notify-form"
      aria-label={label}
      onSubmit={(event) => {
        event.preventDefault();
        if (busy.peek()) return;
        busy.value = true;
        failure.value = "";
        onSubmit()
          .catch((error: unknown) => {
            failure.value = errorText(error);
          })
          .finally(() => {
            busy.value = false;
          });
      }}
    >
      {children}
      {failure.value ? (
        <p role="alert" class="form-failure">
          {failure.value}
        </p>
      ) : null}
      <div class="notify-line">
        <button type="submit" class="primary" disabled={busy.value}>
          {busy.value ? "Checking…" : submit}
        </button>
        {onCancel ? (
          <button type="button" onClick={onCancel}>
            Cancel
          </button>
        ) : null}
      </div>
    </form>
  );
}

interface FieldProps {
  label: string;
  value: string;
  placeholder?: string;
  hint?: string;
  list?: string;
  secret?: boolean;
  optional?: boolean;
  type?: "text" | "time";
  onInput: (text: string) => void;
}

export function Field({
  label,
  value,
  placeholder,
  hint,
  list,
  secret,
  optional,
  type,
  onInput,
}: FieldProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type={type ?? "text"}
        value={value}
        placeholder={placeholder}
        list={list}
        required={!optional}
        spellcheck={false}
        autocomplete={secret ? "off" : undefined}
        autocapitalize="off"
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {hint ? <small>{hint}</small> : null}
    </label>
  );
}

interface DeleteProps {
  what: string;
  /** A small button, in a line of small print. */
  quiet?: boolean;
  onDelete: () => Promise<void>;
}

/** Asks once more in its own place. */
export function Delete({ what, quiet, onDelete }: DeleteProps) {
  const asked = useSignal(false);
  const kept = useSignal(false);
  const focused = useRef<HTMLButtonElement>(null);
  // The question stands where the button was and the other way round: focus goes along.
  useLayoutEffect(() => {
    if (asked.value || kept.value) focused.current?.focus();
  }, [asked.value]);
  if (!asked.value)
    return (
      <button
        type="button"
        class={quiet ? "quiet" : ""}
        aria-label={`Delete ${what}`}
        ref={focused}
        onClick={() => {
          asked.value = true;
        }}
      >
        Delete
      </button>
    );
  return (
    <span class="asked">
      Delete {what}?{" "}
      <button
        type="button"
        ref={focused}
        onClick={() => {
          asked.value = false;
          kept.value = true;
        }}
      >
        Keep
      </button>{" "}
      <button
        type="button"
        class="danger"
        onClick={() => {
          asked.value = false;
          void onDelete();
        }}
      >
        Delete
      </button>
    </span>
  );
}
