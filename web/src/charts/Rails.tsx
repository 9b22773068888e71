import { formatStep } from "../ui/format";
import type { Figure, NonFiniteKind, Span } from "./figure";
import { MARGIN } from "./plot";
import { mergeSpans } from "./rails";

const LOOK: Record<NonFiniteKind, { glyph: string; word: string }> = {
  nan: { glyph: "×", word: "NaN" },
  "+inf": { glyph: "▲", word: "+Inf" },
  "-inf": { glyph: "▼", word: "−Inf" },
  nonpositive: { glyph: "⌄", word: "≤0" },
};
const ORDER: NonFiniteKind[] = ["nan", "+inf", "-inf", "nonpositive"];

export interface Scale {
  width: number;
  /** Step to pixels from the left edge of the figure. */
  pixel: (step: number) => number;
}

/** One lane for each kind of value that has no place on the axis, with its number. */
export function Rails({ figure, scale }: { figure: Figure; scale: Scale }) {
  const kinds = ORDER.filter((kind) => figure.spans.some((span) => span.kind === kind));
  if (!kinds.length) return null;
  return (
    <div class="rails">
      {kinds.map((kind) => (
        <Lane
          key={kind}
          kind={kind}
          spans={mergeSpans(
            figure.spans.filter((span) => span.kind === kind),
            scale.pixel,
            14,
          )}
          scale={scale}
        />
      ))}
    </div>
  );
}

function Lane({ kind, spans, scale }: { kind: NonFiniteKind; spans: Span[]; scale: Scale }) {
  const { glyph, word } = LOOK[kind];
  const right = scale.width - MARGIN.right;
  const total = spans.reduce((sum, span) => sum + span.count, 0);
  const inView = spans.filter(
    (span) => scale.pixel(span.to) >= MARGIN.left && scale.pixel(span.from) <= right,
  );
  if (!inView.length) return null;
  return (
    <ul class="rail-lane" aria-label={`${word} values`}>
      <li class="rail-word" title={`${formatStep(total)} × ${word}`}>
        {word}
      </li>
      {inView.map((span) => {
        const from = Math.max(MARGIN.left, scale.pixel(span.from));
        const to = Math.min(right, scale.pixel(span.to));
        const steps =
          span.from === span.to
            ? `step ${formatStep(span.from)}`
            : `steps ${formatStep(span.from)} to ${formatStep(span.to)}`;
        const text = `${formatStep(span.count)} × ${word}, ${steps}`;
        const wide = to - from >= 40;
        return (
          <li
            key={span.from}
            class={`rail-mark rail-${kind === "nonpositive" ? "nonpositive" : "nonfinite"}`}
            data-testid={kind === "nonpositive" ? "nonpositive-mark" : "nonfinite-mark"}
            data-kind={kind}
            data-count={span.count}
            title={text}
            aria-label={text}
            style={{ left: `${from - 5}px`, width: `${Math.max(10, to - from + 5)}px` }}
          >
            <span aria-hidden="true">
              {glyph}
              {span.count > 1 && wide ? <small> {formatStep(span.count)}</small> : null}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

/** Shares between steps as one strip under the plot, in five depths of grey. */
export function Strip({ figure, scale }: { figure: Figure; scale: Scale }) {
  const strip = figure.strip;
  if (!strip) return null;
  const depths: string[] = ["", "", "", "", ""];
  for (const cell of strip.cells) {
    if (!(cell.share > 0)) continue;
    const from = Math.max(MARGIN.left, scale.pixel(cell.from));
    const to = Math.min(scale.width - MARGIN.right, scale.pixel(cell.to));
    if (to <= from) continue;
    const depth = Math.min(4, Math.floor(cell.share * 5));
    depths[depth] += `M${from.toFixed(1)} 0H${(to + 0.5).toFixed(1)}V10H${from.toFixed(1)}Z`;
  }
  return (
    <div class="strip" title={`Share of attempts ${strip.label}: the darker, the more`}>
      <span class="rail-word">{strip.label}</span>
      <svg width={scale.width} height="10" aria-hidden="true">
        <rect
          x={MARGIN.left}
          y="0"
          width={Math.max(0, scale.width - MARGIN.left - MARGIN.right)}
          height="10"
          class="strip-base"
        />
        {depths.map((path, i) => (path ? <path key={String(i)} d={path} class={`strip-${i}`} /> : null))}
      </svg>
    </div>
  );
}
