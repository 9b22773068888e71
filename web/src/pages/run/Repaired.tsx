import { repairs, repairWords } from "../../state/repairs";
import type { RunStore } from "../../state/run";

/** Says that guards are changing numbers: a training that looks healthy only because of them is not. */
export function RepairedBanner({ store }: { store: RunStore }) {
  void store.version.value;
  const found = repairs(store);
  if (!found.length) return null;
  return (
    <section
      class="banner banner-warning banner-line"
      data-testid="repaired-banner"
      aria-label="Repaired numbers"
    >
      <p>
        <strong>Training on repaired numbers:</strong> {repairWords(found)}.
      </p>
      <p class="small-print">
        The guard hides the symptom. Where the bad numbers come from is still to be found.
      </p>
    </section>
  );
}
