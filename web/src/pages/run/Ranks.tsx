import type { RunDetail } from "../../net/types";
import { stripOf } from "../../state/ranks";

/** The processes of a distributed training: who is there, who lags, whose numbers went bad first. */
export function Ranks({ detail }: { detail: RunDetail }) {
  const ranks = detail.ranks ?? [];
  if (ranks.length < 2) return null;
  const { cells, quiet } = stripOf(ranks);
  return (
    <section class="ranks" aria-label="Ranks" data-testid="ranks">
      <span class="secondary">{ranks.length} ranks</span>
      <ul>
        {cells.map((cell) => (
          <li
            key={cell.rank}
            class={`rank rank-${cell.tone}`}
            title={cell.title}
            data-testid={`rank-${cell.rank}`}
          >
            {cell.mark ? <span aria-hidden="true">{cell.mark} </span> : null}
            <b>{cell.rank}</b>
            {cell.word ? <span> {cell.word}</span> : null}
          </li>
        ))}
      </ul>
      {quiet ? <span class="secondary">{quiet} more without news</span> : null}
      <span class="secondary">Loss and charts are those of rank 0.</span>
    </section>
  );
}
