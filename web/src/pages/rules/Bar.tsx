import { useSignal } from "@preact/signals";
import { ApiError, errorText } from "../../net/api";
import { discard, isUnsaved, loadRules, save, textOf, type, wrongFrom, wrongOf } from "../../state/rules";
import { lookAt } from "./lines";

/** Save, take back, revert: at the lower edge, so that it is seen from every rule. */
export function Bar({ project }: { project: string }) {
  const busy = useSignal(false);
  const failure = useSignal("");
  const conflict = useSignal(false);
  const saved = useSignal(false);
  const dirty = isUnsaved(project);
  const wrong = wrongOf(project);
  const attempt = async () => {
    busy.value = true;
    failure.value = "";
    conflict.value = saved.value = false;
    try {
      await save(project);
      saved.value = true;
    } catch (error) {
      conflict.value = error instanceof ApiError && error.status === 409;
      const place = wrongFrom(error);
      // What does not fit stands below the text, at its line.
      if (place) lookAt.value = place.line;
      else failure.value = errorText(error);
    }
    busy.value = false;
  };
  const state = dirty
    ? wrong
      ? `Not saved. Switches wait until ${wrong.line ? `line ${wrong.line}` : "the text"} is mended`
      : "Not saved"
    : saved.value
      ? "✓ Saved: counts from the next points on"
      : "Nothing to save";
  return (
    <div class={dirty ? "rules-bar rules-bar-dirty" : "rules-bar"} data-testid="rules-bar">
      <p role="status" class="rules-state">
        {state}
      </p>
      {failure.value && dirty ? (
        <p role="alert" class="form-failure">
          {failure.value}
        </p>
      ) : null}
      <div class="rules-buttons">
        {conflict.value && dirty ? (
          <button
            type="button"
            onClick={() => {
              discard(project);
              failure.value = "";
              void loadRules(project);
            }}
          >
            Load theirs
          </button>
        ) : null}
        {conflict.value && dirty ? (
          <button type="button" onClick={() => void loadRules(project).then(attempt)}>
            Save mine over it
          </button>
        ) : null}
        <button type="button" disabled={!textOf(project)} onClick={() => type(project, "")}>
          Revert to packaged
        </button>
        <button
          type="button"
          disabled={!dirty || busy.value}
          onClick={() => {
            discard(project);
            failure.value = "";
          }}
        >
          Undo changes
        </button>
        <button
          type="button"
          class="primary"
          data-testid="rules-save"
          disabled={!dirty || busy.value}
          onClick={() => void attempt()}
        >
          {busy.value ? "Saving…" : "Save"}
        </button>
      </div>
    </div>
  );
}
