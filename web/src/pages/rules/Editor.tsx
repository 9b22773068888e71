import { useEffect, useRef } from "preact/hooks";
import { limitsOf, textOf, type, wrongOf } from "../../state/rules";
import { mayControl } from "../../state/session";
import { CopyButton } from "../../ui/CopyButton";
import { lineStart, lookAt } from "./lines";

const ROWS_LEAST = 8;
const ROWS_MOST = 24;

/** The limits as a text: numbered lines, the one that does not fit is marked. */
export function Editor({ project }: { project: string }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const text = textOf(project);
  const wrong = wrongOf(project);
  const lines = text.split("\n").length;
  const rows = Math.min(ROWS_MOST, Math.max(ROWS_LEAST, lines + 1));
  const follow = () => {
    if (gutter.current && area.current)
      gutter.current.style.transform = `translateY(${-area.current.scrollTop}px)`;
  };
  useEffect(follow);
  // Looked at when asked: by Save, by the link below, never while somebody types.
  useEffect(() => lookAt.subscribe((line) => line && area.current && goTo(area.current, line)), []);
  return (
    <section class="card rules-editor" aria-labelledby="editor-title">
      <h2 id="editor-title">As a text</h2>
      <p class="small-print">
        TOML: the rule in brackets, then what is not as packaged. A # begins a note. Empty means: as packaged.
      </p>
      <div class={wrong ? "editor editor-wrong" : "editor"}>
        <div class="editor-gutter" aria-hidden="true">
          <div ref={gutter}>
            {Array.from({ length: lines }, (_, i) => (
              <span key={i} class={wrong?.line === i + 1 ? "gutter-wrong" : ""}>
                {wrong?.line === i + 1 ? "✗" : ""} {i + 1}
              </span>
            ))}
          </div>
        </div>
        <textarea
          ref={area}
          id="rules-text"
          data-testid="rules-text"
          class="mono"
          aria-label="Limits as TOML"
          aria-invalid={wrong ? "true" : undefined}
          aria-describedby="rules-wrong"
          rows={rows}
          wrap="off"
          spellcheck={false}
          autocapitalize="off"
          autocomplete="off"
          readOnly={!mayControl.value}
          placeholder={"[skip_streak]\nwarning = 3   # our loader never skips\n\n[plateau]\nenabled = false"}
          value={text}
          onInput={(event) => type(project, event.currentTarget.value)}
          onScroll={follow}
        />
      </div>
      <p id="rules-wrong" role="alert" class="rules-wrong" data-testid="rules-wrong">
        {wrong ? (
          <>
            <span>{wrong.message}</span>{" "}
            {wrong.line ? (
              <button type="button" class="quiet" onClick={() => (lookAt.value = wrong.line)}>
                Go to line {wrong.line}
              </button>
            ) : null}
          </>
        ) : null}
      </p>
      {wrong ? null : (
        <Says count={Object.values(limitsOf(project)).filter((of) => Object.keys(of).length).length} />
      )}
    </section>
  );
}

function Says({ count }: { count: number }) {
  const words = count === 1 ? "1 rule is not as packaged." : `${count} rules are not as packaged.`;
  return <p class="small-print">{count ? words : "Every rule is as packaged."}</p>;
}

/** The line is selected and in the middle of what is seen. */
function goTo(area: HTMLTextAreaElement, line: number): void {
  lookAt.value = 0;
  const start = lineStart(area.value, line);
  const end = area.value.indexOf("\n", start);
  area.focus({ preventScroll: true });
  area.setSelectionRange(start, end < 0 ? area.value.length : end);
  const style = getComputedStyle(area);
  const height = Number.parseFloat(style.lineHeight);
  area.scrollTop = Math.max(0, (line - 1) * height - area.clientHeight / 2);
  area.scrollIntoView({ block: "center" });
}

/** The packaged limits with their sources: to look at and to copy from. */
export function Packaged({ text }: { text: string }) {
  return (
    <details class="card rules-packaged">
      <summary>Packaged limits, with their sources</summary>
      <p>
        <CopyButton text={text} />
      </p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, also by keyboard */}
      <pre tabIndex={0}>{text}</pre>
    </details>
  );
}
