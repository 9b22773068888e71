import { useEffect, useRef, useState } from "preact/hooks";
import { MARGIN } from "../../charts/plot";
import { placing, shownSteps } from "../../charts/window";
import { commandWords } from "../../state/commands";
import type { RunStore } from "../../state/run";
import { changeView, view } from "../../state/view";
import { formatDateTime, formatStep, formatText } from "../../ui/format";
import { SEVERITY } from "../../ui/severity";

interface Item {
  key: string;
  lane: number;
  step: number;
  glyph: string;
  text: string;
  detail: string;
  kind: string;
}

const LANES = ["incidents", "actions", "run"];

/** What happened, on one line of time for all charts: click to go there. */
export function EventRail({ store }: { store: RunStore }) {
  void store.version.value;
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const sized = new ResizeObserver((entries) => setWidth(Math.floor(entries.at(-1)!.contentRect.width)));
    sized.observe(box.current!);
    return () => sized.disconnect();
  }, []);
  const items = itemsOf(store);
  const steps = shownSteps(store, view.value);
  const place = placing(store, view.value.x);
  const [from, to] = steps.map(place.toX) as [number, number];
  const left = MARGIN.left;
  const pixel = (step: number) =>
    left + ((place.toX(step) - from) / (to - from)) * (width - left - MARGIN.right);
  const lanes = LANES.map((_, lane) =>
    spread(
      items.filter((item) => item.lane === lane && item.step >= steps[0] && item.step <= steps[1]),
      pixel,
      width,
    ),
  );
  return (
    <section class="card event-rail" data-testid="event-rail" aria-label="Events" ref={box}>
      {lanes.map((lane, i) => (
        <div class="event-lane" key={LANES[i]}>
          <span class="rail-word">{LANES[i]}</span>
          {width > 0 &&
            lane.map(({ item, at, label, more }) => (
              <button
                key={item.key}
                type="button"
                class={`event event-${item.kind}`}
                data-kind={item.kind}
                data-step={item.step}
                style={{ left: `${at}px` }}
                title={item.detail}
                aria-label={item.detail}
                onClick={() => jump(item.step, store)}
              >
                <span aria-hidden="true">{item.glyph}</span>
                {label ? <span class="event-text">{item.text}</span> : null}
                {more ? <small> +{more}</small> : null}
              </button>
            ))}
        </div>
      ))}
    </section>
  );
}

function jump(step: number, store: RunStore): void {
  const around = Math.max(50, Math.min(400, (store.lastStep - store.firstStep) / 8));
  changeView({ zoom: [Math.max(0, Math.round(step - around)), Math.round(step + around)] }, true);
}

/** Labels where there is room; items nearer than a button's width are folded into one with a count. */
function spread(items: Item[], pixel: (step: number) => number, width: number) {
  const shown: { item: Item; at: number; label: boolean; more: number }[] = [];
  for (const item of [...items].sort((a, b) => a.step - b.step)) {
    const at = pixel(item.step);
    const last = shown.at(-1);
    if (last && at - last.at < 24) {
      last.more++;
      // The weightier of the two gives the sign: a fired incident hides its onset, not the other way round.
      if (weight(item) > weight(last.item)) last.item = item;
    } else shown.push({ item, at, label: false, more: 0 });
  }
  shown.forEach((one, i) => {
    const end = shown[i + 1]?.at ?? width;
    one.label = end - one.at > 30 + one.item.text.length * 6.6;
  });
  return shown;
}

function weight(item: Item): number {
  return ["onset", "mark", "checkpoint", "notice", "command", "warning", "critical"].indexOf(item.kind);
}

function itemsOf(store: RunStore): Item[] {
  const items: Item[] = [];
  for (const incident of store.incidents.value.values()) {
    const { shape, word } = SEVERITY[incident.severity];
    const about = incident.syndrome.replaceAll("-", " ");
    items.push({
      key: `${incident.id}onset`,
      lane: 0,
      step: incident.onset_step,
      glyph: "◁",
      text: "onset",
      detail: `Onset of “${incident.title}”, step ${formatStep(incident.onset_step)}`,
      kind: "onset",
    });
    items.push({
      key: `${incident.id}fired`,
      lane: 0,
      step: incident.fired_step,
      glyph: shape,
      text: about,
      detail: `${word}: ${incident.title}, step ${formatStep(incident.fired_step)}`,
      kind: incident.severity,
    });
  }
  for (const command of store.commands.value.values()) {
    const step = command.applied_step ?? commandStep(store, command.created_at);
    const change = Object.keys(command.after)[0];
    const values =
      change === undefined
        ? ""
        : ` ${formatText(command.before[change])} → ${formatText(command.after[change])}`;
    items.push({
      key: command.id,
      lane: 1,
      step,
      glyph: "⚙",
      text: `${commandWords(command)} ${command.state}`,
      detail: `${commandWords(command)}${values}: ${command.state}, step ${formatStep(step)}`,
      kind: "command",
    });
  }
  for (const one of store.checkpoints.value)
    items.push({
      key: `checkpoint${one.step}${one.path}`,
      lane: 2,
      step: one.step,
      glyph: one.grade === "healthy" ? "◆" : "◇",
      text: one.grade,
      detail: `Checkpoint at step ${formatStep(one.step)}, ${one.grade}, ${formatDateTime(one.at)}: ${one.path}`,
      kind: "checkpoint",
    });
  for (const [i, mark] of store.marks.value.entries())
    items.push({
      key: `mark${String(i)}${mark.what}${mark.step}`,
      lane: 2,
      step: mark.step,
      glyph: "│",
      text: mark.text || mark.what.replaceAll("_", " "),
      detail: `${mark.what.replaceAll("_", " ")} ${mark.text}, step ${formatStep(mark.step)}`,
      kind: "mark",
    });
  return items;
}

/** A command that was never applied stands where the run was when it was asked for. */
function commandStep(store: RunStore, at: number): number {
  const step = store.timeline.stepAt(at);
  return Number.isFinite(step) ? Math.max(0, Math.min(store.lastStep, Math.round(step))) : store.lastStep;
}
