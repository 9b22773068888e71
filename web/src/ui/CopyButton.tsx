import { useState } from "preact/hooks";

/** Copies text; on plain HTTP there is no clipboard API, so the old way stands in. */
export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [state, setState] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("Copied");
    } catch {
      setState(copyBySelection(text) ? "Copied" : "Select and copy by hand");
    }
    setTimeout(() => setState(""), 2000);
  };
  return (
    <button type="button" class="quiet" onClick={() => void copy()} aria-label={`${label}: ${text}`}>
      {state || label}
    </button>
  );
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
