/** Words for what the SDK found out about a non-finite value. Pure. */
import type { Forensics, NonFinite } from "../net/types";
import { formatStep } from "../ui/format";

const DID: Record<Forensics["cause"], string> = {
  nan: "produced NaN",
  overflow: "overflowed to infinity",
  unknown: "produced a non-finite value",
};

/** One sentence without its full stop: which layer came first, and what it did. */
export function forensicsTitle(found: Forensics): string {
  switch (found.verdict) {
    case "layer":
      return firstLayer(found);
    case "all_at_once":
      return found.cause === "overflow"
        ? "All layers overflowed at once: no order can be told"
        : "All layers turned bad at once: no order can be told";
    case "loss":
      return `Every layer was finite; the loss ${DID[found.cause]}`;
    case "not_found":
      return nothingFound(found);
  }
}

function nothingFound(found: Forensics): string {
  if (found.trigger === "exception") return "The run ended by an exception";
  if (found.trigger !== "command") return "No layer could be named";
  return found.tracing_steps > 0
    ? `Tracing ${formatStep(found.tracing_steps)} attempts, as asked`
    : "Tracing met no value that was not finite";
}

/** Those that say most come first; of the same, the given order stays. */
export function mostTelling(all: Forensics[]): Forensics[] {
  return [...all].sort((a, b) => telling(b) - telling(a));
}

function telling(found: Forensics): number {
  if (found.verdict === "layer") return found.first_forward || found.producers.length ? 4 : 3;
  return { loss: 2, all_at_once: 1, not_found: 0 }[found.verdict] ?? 0;
}

function firstLayer(found: Forensics): string {
  const forward = found.first_forward;
  const name = forward || found.first_backward || found.producers[0] || "unknown";
  const pass = forward ? " (forward)" : found.first_backward ? " (backward)" : "";
  const from = found.producers.includes(name) ? " from finite inputs" : "";
  return `First bad layer: ${name}${pass}, ${DID[found.cause]}${from}`;
}

const TRIGGERS: Record<Forensics["trigger"], string> = {
  loss: "after a loss that was not finite",
  gradient: "after a gradient that was not finite",
  parameter: "after a parameter that was not finite",
  skips: "after updates skipped in a row",
  command: "asked for by a command",
  exception: "after an exception",
};

/** Why the SDK looked. */
export function triggerWords(found: Forensics): string {
  return TRIGGERS[found.trigger] ?? found.trigger;
}

/** "tracing until step 460", or what was; empty if nothing was armed. */
export function tracingWords(found: Forensics, lastStep: number): string {
  if (found.tracing_steps <= 0) return "";
  const until = found.step + found.tracing_steps;
  const count = `${formatStep(found.tracing_steps)} attempts`;
  return lastStep < until
    ? `Tracing is armed for ${count}, until step ${formatStep(until)}.`
    : `Tracing was armed for ${count}, until step ${formatStep(until)}.`;
}

const PLACES: Record<NonFinite["where"], string> = {
  loss: "in the loss",
  gradient: "in gradients",
  parameter: "in parameters",
  buffer: "in buffers",
  moment: "in the optimizer's moments",
  watched: "in a watched value",
  logged: "in a logged value",
};

/** "NaN in 3 of 154, in buffers of policy". */
export function nonFiniteWords(one: NonFinite): string {
  const bad = [
    one.nan ? `NaN in ${formatStep(one.nan)}` : "",
    one.inf ? `infinity in ${formatStep(one.inf)}` : "",
  ];
  const count = bad.filter(Boolean).join(", ") || "non-finite";
  const of = one.total > 1 ? ` of ${formatStep(one.total)} tensors` : "";
  return `${count}${of}, ${PLACES[one.where] ?? one.where}${one.scope ? ` of ${one.scope}` : ""}`;
}
