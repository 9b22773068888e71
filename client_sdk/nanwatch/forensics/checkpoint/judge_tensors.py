"""Findings about the tensors of a checkpoint: weights, running statistics, copies, stored data.

Pure: `CheckpointFacts` in, findings out. Thresholds and where they come from: docs/diagnose.md.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence

from nanwatch.forensics.checkpoint.facts import CheckpointFacts, CopyFacts, TensorFacts
from nanwatch.forensics.checkpoint.findings import Advice, Finding, Severity, count, number, some

HUGE = 1e8
"""No weight of a training that works is as large (TheDeepChecker)."""

RMS_LARGE = 1000.0
OUTLIER_Z = 6.0
OUTLIER_RATIO = {"matrix": 100.0, "vector": 1000.0, "bias": 1000.0}
OUTLIER_TENSORS = 8
SPREAD_LEAST = 0.35
"""Least spread of log RMS within a type: healthy networks differ by that much."""

VARIANCE_HUGE = 1e10
DEAD_ROWS_SHARE = 0.5
DEAD_ROWS_LEAST = 8

_NO_WEIGHT = re.compile(r"mask|freq|pos|inv_|running_|num_batches|table|cache|scale|buffer|grid")
"""Names of constants that are large by right."""

GO_BACK = Advice("Do not go on from this file: take the newest checkpoint from before the trouble.")
COMPARE = Advice(
    "Compare with an earlier checkpoint to see which tensors grew before.",
    copy="nanwatch diagnose {path} --against EARLIER",
)


def judge_tensors(facts: CheckpointFacts) -> Iterator[Finding]:
    """All findings about tensors."""
    copies = {copy.name for copy in facts.copies}
    weights = [t for t in facts.tensors if t.role == "weight" and t.elements]
    yield from _non_finite(facts, [t for t in weights if _head(t) not in copies])
    yield from _running_statistics(facts)
    for copy in facts.copies:
        yield from _copy(copy)
    yield from _stored_data(facts)
    yield from _large(weights)
    yield from _outliers(weights)
    yield from _rows(weights)


def _head(tensor: TensorFacts) -> str:
    return tensor.section or tensor.name.partition(".")[0]


# --- not finite ----------------------------------------------------------------------------------


def _non_finite(facts: CheckpointFacts, weights: Sequence[TensorFacts]) -> Iterator[Finding]:
    sections: dict[str, list[TensorFacts]] = {}
    for tensor in weights:
        sections.setdefault(tensor.section, []).append(tensor)
    for section, tensors in sections.items():
        bad = [t for t in tensors if t.bad and not t.is_mask]
        if not bad:
            continue
        of = f" of {section}" if section else ""
        elements = sum(t.bad for t in bad)
        what = _what(bad)
        if len(bad) == len(tensors) and len(tensors) > 1:
            whole = all(t.bad == t.elements for t in bad)
            text = (
                f"All {len(bad)} weight tensors{of} hold {what}"
                f"{' and nothing else' if whole else ''}: they went bad all at once, so which was "
                "first cannot be told from them."
            )
        else:
            text = (
                f"{len(bad)} of {count(len(tensors), 'weight tensor')}{of} "
                f"{'holds' if len(bad) == 1 else 'hold'} {elements:,} values that are not finite "
                f"({what}); the first in order is {bad[0].name}."
            )
            text += _pattern(tensors, bad)
        if what == "Infinity":
            text += " Infinity without NaN: numbers outgrew their type."
        advice = [GO_BACK, *_copies_left(facts), COMPARE]
        yield Finding("nonfinite-weights", "critical", text, [t.title for t in bad], advice)


def _what(tensors: Sequence[TensorFacts]) -> str:
    nan = any(t.nan for t in tensors)
    infinite = any(t.positive_infinite or t.negative_infinite for t in tensors)
    return "NaN and Infinity" if nan and infinite else "NaN" if nan else "Infinity"


def _pattern(tensors: Sequence[TensorFacts], bad: Sequence[TensorFacts]) -> str:
    """What the places of the bad tensors tell."""
    places = [place for place, t in enumerate(tensors) if t.bad and not t.is_mask]
    if len(bad) > 1 and places == list(range(len(places))):
        return (
            f" All up to {bad[-1].name} are bad and none after it: one backward pass went bad "
            f"there and poisoned what comes before it."
        )
    rows = bad[0]
    if len(bad) == 1 and 0 < rows.bad_rows_count <= max(rows.rows // 10, 1):
        listed = some([str(row) for row in rows.bad_rows], 8)
        return (
            f" Only {count(rows.bad_rows_count, 'row')} of {rows.rows:,}: {listed}. In an "
            "embedding these are the ids whose gradient was bad."
        )
    return ""


def _copies_left(facts: CheckpointFacts) -> list[Advice]:
    return [
        Advice(f"The copy {copy.name} is finite: its weights can be started from.")
        for copy in facts.copies
        if not copy.bad and copy.of_bad
    ]


def _running_statistics(facts: CheckpointFacts) -> Iterator[Finding]:
    buffers = [t for t in facts.tensors if t.role == "buffer" and t.elements]
    bad = [t for t in buffers if t.bad]
    if bad:
        yield Finding(
            "nonfinite-buffers",
            "critical",
            f"{count(len(bad), 'running statistic')} of normalisation layers "
            f"{'is' if len(bad) == 1 else 'are'} not finite, first {bad[0].name}: every output "
            "in evaluation is NaN, whatever the weights are. A skipped update does not prevent "
            "it: the statistics are updated in the forward pass.",
            [t.title for t in bad],
            [
                GO_BACK,
                Advice(
                    "If only these are bad: reset them and run the model over some good batches in "
                    "training mode.",
                    "symptom",
                    "for m in model.modules():\n    if hasattr(m, 'reset_running_stats'):\n"
                    "        m.reset_running_stats()",
                ),
            ],
        )
    variances = [t for t in buffers if t.name.endswith("running_var") and not t.bad]
    negative = [t for t in variances if t.low < 0]
    if negative:
        yield Finding(
            "negative-variance",
            "critical",
            f"{some([t.name for t in negative])}: a running variance below zero "
            f"({number(min(t.low for t in negative))}), which no training gives; its square root "
            "is NaN. The file is damaged, or statistics were averaged or subtracted by hand.",
            [t.title for t in negative],
        )
    huge = [t for t in variances if t.high > VARIANCE_HUGE]
    if huge:
        yield Finding(
            "huge-variance",
            "warning",
            f"{some([t.name for t in huge])}: a running variance of "
            f"{number(max(t.high for t in huge))}: activations before it have grown to about "
            f"{number(math.sqrt(max(t.high for t in huge)))}.",
            [t.title for t in huge],
            [Advice("Lower the learning rate, and look at the inputs of that layer.", "symptom")],
        )


def _copy(copy: CopyFacts) -> Iterator[Finding]:
    if copy.bad and not copy.of_bad:
        yield Finding(
            "poisoned-copy",
            "critical",
            f"{copy.name} holds values that are not finite in {copy.bad} of {copy.tensors} tensors "
            f"although {copy.of} is fine: an average never forgets a NaN, so it stays bad.",
            [copy.name],
            [
                Advice(
                    f"Set it anew from {copy.of}.",
                    "symptom",
                    "ema.load_state_dict(model.state_dict())",
                ),
                Advice("Update the average only when the update was finite.", "cause"),
            ],
        )
    elif copy.bad:
        yield Finding(
            "poisoned-copy",
            "critical",
            f"{copy.name}, the copy of {copy.of}, holds values that are not finite too "
            f"({copy.bad} of {copy.tensors} tensors).",
            [copy.name],
            [GO_BACK],
        )


def _stored_data(facts: CheckpointFacts) -> Iterator[Finding]:
    bad = [t for t in facts.tensors if t.role == "data" and t.bad]
    if bad:
        yield Finding(
            "nonfinite-data",
            "critical",
            f"Stored samples hold {sum(t.bad for t in bad):,} values that are not finite "
            f"({some([t.title for t in bad])}): replay feeds them back into every training that "
            "goes on from here, even with good weights.",
            [t.title for t in bad],
            [
                Advice(
                    "Drop such rows when loading, and store only finite ones.",
                    "cause",
                    "keep = nanwatch.guards.finite_rows(logits)",
                )
            ],
        )


# --- too large, alone, dead ----------------------------------------------------------------------


def is_weight(tensor: TensorFacts) -> bool:
    """True for what is most likely trained, and no constant that a module carries along."""
    return _NO_WEIGHT.search(tensor.name.lower()) is None


def kind_of(tensor: TensorFacts) -> str:
    """`matrix`, `bias` or `vector` (scales of norms): each has sizes of its own."""
    if len(tensor.shape) >= 2:
        return "matrix"
    return "bias" if tensor.name.endswith("bias") else "vector"


def _large(weights: Sequence[TensorFacts]) -> Iterator[Finding]:
    found = [t for t in weights if is_weight(t) and (t.over_half or t.rms > RMS_LARGE)]
    if not found:
        return
    worst = max(found, key=lambda t: t.largest)
    severity: Severity = "critical" if worst.largest > HUGE else "warning"
    text = (
        f"{count(len(found), 'weight tensor')} {'has' if len(found) == 1 else 'have'} values of up "
        f"to {number(worst.largest)} ({worst.title}, typically {number(worst.rms)})."
    )
    over = sum(t.over_half for t in found)
    if over:
        text += f" {count(over, 'value')} cannot be written in fp16, which ends at 65,504."
    if severity == "critical":
        text += " Weights this large make every output overflow or saturate: the run has diverged."
    advice = [GO_BACK] if severity == "critical" else []
    advice += [
        COMPARE,
        Advice("Lower the learning rate, clip the gradient norm, add weight decay.", "symptom"),
    ]
    yield Finding("extreme-weights", severity, text, [t.title for t in found], advice)


class Outlier:
    """A tensor beside those of its type in its section."""

    def __init__(self, tensor: TensorFacts, z: float, ratio: float, kind: str) -> None:
        self.tensor, self.z, self.ratio, self.kind = tensor, z, ratio, kind


def outliers(weights: Sequence[TensorFacts]) -> list[Outlier]:
    """Robust z of log RMS within section and type, the most unusual first."""
    groups: dict[tuple[str, str], list[TensorFacts]] = {}
    for tensor in weights:
        if is_weight(tensor) and tensor.rms > 0 and tensor.elements >= 4 and not tensor.bad:
            groups.setdefault((tensor.section, kind_of(tensor)), []).append(tensor)
    found = []
    for (_, kind), tensors in groups.items():
        if len(tensors) < OUTLIER_TENSORS:
            continue
        logs = [math.log(t.rms) for t in tensors]
        middle = statistics.median(logs)
        spread = 1.4826 * statistics.median(abs(x - middle) for x in logs)
        for tensor, x in zip(tensors, logs, strict=True):
            z = (x - middle) / max(spread, SPREAD_LEAST)
            found.append(Outlier(tensor, z, math.exp(x - middle), kind))
    return sorted(found, key=lambda o: -abs(o.z))


def _outliers(weights: Sequence[TensorFacts]) -> Iterator[Finding]:
    found = [o for o in outliers(weights) if o.z > OUTLIER_Z and o.ratio > OUTLIER_RATIO[o.kind]]
    if found:
        first = found[0]
        yield Finding(
            "outlier-layer",
            "warning",
            f"{some([o.tensor.title for o in found])}: {number(first.ratio)} times as large as the "
            f"other {'matrice' if first.kind == 'matrix' else first.kind}s (robust z "
            f"{first.z:.1f}): this layer has run away from the rest.",
            [o.tensor.title for o in found],
            [COMPARE],
        )


def _rows(weights: Sequence[TensorFacts]) -> Iterator[Finding]:
    matrices = [t for t in weights if t.rows and is_weight(t) and t.zeros < t.elements]
    dead = [t for t in matrices if t.zero_rows >= max(DEAD_ROWS_LEAST, DEAD_ROWS_SHARE * t.rows)]
    if dead:
        worst = max(dead, key=lambda t: t.zero_rows / t.rows)
        yield Finding(
            "dead-rows",
            "warning",
            f"{some([t.title for t in dead])}: {worst.zero_rows:,} of {worst.rows:,} rows are zero "
            "throughout, bias too where there is one: those units give out nothing and learn "
            "nothing.",
            [t.title for t in dead],
            [Advice("Start those units anew (ReDo), or take a leaky activation.", "cause")],
        )
    empty = [t for t in weights if t.rows and is_weight(t) and t.zeros == t.elements]
    if empty:
        yield Finding(
            "zero-weights",
            "notice",
            f"{some([t.title for t in empty])}: zero throughout. Right at the start of adapters "
            "and gates that begin at zero; later it means that nothing was learned there.",
            [t.title for t in empty],
        )
    constant = [t for t in matrices if t.rows >= 4 and t.constant_rows == t.rows]
    if constant:
        yield Finding(
            "constant-weights",
            "warning",
            f"{some([t.title for t in constant])}: every row is one number repeated, so all its "
            "inputs are treated alike: a constant initialisation that training never broke.",
            [t.title for t in constant],
            [Advice("Initialise at random.", "cause", "torch.nn.init.kaiming_normal_(weight)")],
        )
