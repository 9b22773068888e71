"""What `nanwatch diagnose` prints: verdict and advice first, then tables; or one JSON object."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nanwatch.forensics.checkpoint.facts import (
    HISTOGRAM_HIGH,
    HISTOGRAM_LOW,
    BackwardFacts,
    ChangeFacts,
    CheckpointFacts,
    OptimizerFacts,
    TensorFacts,
)
from nanwatch.forensics.checkpoint.findings import Advice, Finding, count, number
from nanwatch.forensics.checkpoint.judge import Verdict, gain
from nanwatch.forensics.checkpoint.judge_backward import percentile
from nanwatch.forensics.checkpoint.judge_state import rise_of, update_ratio
from nanwatch.forensics.checkpoint.judge_tensors import outliers

COLORS = {
    "critical": "bold red",
    "suspect": "bold yellow",
    "warning": "yellow",
    "healthy": "bold green",
    "notice": "cyan",
}
WHERE_SHOWN = 6
GROUPS_MOST = 14
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#@"


def show(
    facts: CheckpointFacts, verdict: Verdict, backward: BackwardFacts | None, top: int
) -> None:
    """Print the report for a person on standard output."""
    out = Console(highlight=False)
    for part in _report(facts, verdict, backward, top):
        out.print(part)
        out.print()


def _report(
    facts: CheckpointFacts, verdict: Verdict, backward: BackwardFacts | None, top: int
) -> Iterator[RenderableType]:
    yield _head(facts, verdict)
    for finding in verdict.findings:
        yield _finding(finding)
    if verdict.why:
        yield Group(Text("What may be behind it", style="bold"), *(_line(w) for w in verdict.why))
    if backward is not None:
        yield from _backward(backward, top)
    if facts.comparison is not None:
        yield from _changes(facts.comparison.changes, facts.comparison.earlier, top)
    yield from _weights(facts, top)
    for optimizer in facts.optimizers:
        yield _optimizer(optimizer, top)
    yield from _beside(facts, top)
    notes = [*facts.notes, *(f"{t.title}: {t.skipped}" for t in facts.tensors if t.skipped)]
    if facts.limits:
        notes.append(f"read in a process of its own without {_listed(facts.limits)}")
    if notes:
        shown = notes if len(notes) <= 8 else [*notes[:7], f"and {len(notes) - 7} more"]
        yield Group(*(Text(f"note: {note}", style="dim") for note in shown))


def _listed(limits: Sequence[str]) -> str:
    words = {
        "memory": "more memory than the file needs",
        "processor time": "endless time",
        "programs": "starting programs",
        "writing": "writing",
    }
    return ", ".join(words.get(limit, limit) for limit in limits)


def _line(text: str) -> RenderableType:
    return Padding(Text(text), (0, 0, 0, 2))


# --- verdict -------------------------------------------------------------------------------------


def _head(facts: CheckpointFacts, verdict: Verdict) -> RenderableType:
    floats = [t for t in facts.tensors if t.elements]
    about = [facts.format + (f", by {facts.layout}" if facts.layout else "")]
    about.append(f"{facts.bytes / 1e6:,.1f} MB")
    about.append(f"{count(len(floats), 'tensor')}, {sum(t.elements for t in floats):,} numbers")
    about += [f"{key} {number(value)}" for key, value in list(facts.counters.items())[:3]]
    text = Text.assemble((f" {verdict.verdict.upper()} ", f"reverse {COLORS[verdict.verdict]}"))
    text.append(f" {facts.path}", style="bold")
    lines: list[RenderableType] = [text, Text("  " + " · ".join(about), style="dim")]
    if not verdict.findings or verdict.verdict == "healthy":
        lines.append(_line(verdict.text))
    return Group(*lines)


def _finding(finding: Finding) -> RenderableType:
    head = Text.assemble(
        (finding.severity, COLORS[finding.severity]), (f"  {finding.rule}", "bold")
    )
    lines: list[RenderableType] = [head, _line(finding.message)]
    if len(finding.where) > 1:
        shown = "\n".join(finding.where[:WHERE_SHOWN])
        more = len(finding.where) - WHERE_SHOWN
        shown += f"\n… and {more:,} more" if more > 0 else ""
        lines.append(Padding(Text(shown, style="dim"), (0, 0, 0, 4)))
    lines += [_advice(advice) for advice in finding.advice]
    return Group(*lines)


def _advice(advice: Advice) -> RenderableType:
    tags = {"cause": "treats the cause", "symptom": "masks the symptom", "": ""}
    text = Text.assemble(("→ ", "green"), advice.text)
    if tags[advice.treats]:
        text.append(f" [{tags[advice.treats]}]", style="dim")
    said = Padding(text, (0, 0, 0, 2))
    if not advice.copy:
        return said
    # Never wrapped, so that it can be copied.
    copy = Text(advice.copy, style="bold", no_wrap=True, overflow="ignore")
    return Group(said, Padding(copy, (0, 0, 0, 4)))


# --- weights -------------------------------------------------------------------------------------


def _weights(facts: CheckpointFacts, top: int) -> Iterator[RenderableType]:
    weights = [t for t in facts.tensors if t.role == "weight" and t.elements]
    if not weights:
        return
    norms = [t.norm for t in weights if t.bad < t.elements]
    if not norms:
        yield Text("Weights: not one finite number.", style="bold")
        return
    table = _table("Weights, norm of each tensor", "p50", "p90", "p99", "max", "largest |w|")
    worst = max(weights, key=lambda t: t.norm)
    table.add_row(
        *(number(percentile(norms, share)) for share in (0.5, 0.9, 0.99)),
        f"{number(worst.norm)} ({worst.title})",
        number(max(t.largest for t in weights)),
    )
    yield table
    yield _histograms(weights)
    unusual = [o for o in outliers(weights) if abs(o.z) > 3][:top]
    if unusual:
        table = _table("Unusual in size among their kind", "tensor", "RMS", "× median", "robust z")
        for o in unusual:
            table.add_row(o.tensor.title, number(o.tensor.rms), number(o.ratio), f"{o.z:.1f}")
        yield table


def _histograms(weights: Sequence[TensorFacts]) -> RenderableType:
    groups: dict[str, list[TensorFacts]] = {}
    for depth in (3, 2, 1):
        groups = {}
        for tensor in weights:
            name = ".".join(tensor.name.split(".")[:-1][:depth]) or tensor.name
            title = f"{tensor.section}: {name}" if tensor.section else name
            groups.setdefault(title, []).append(tensor)
        if len(groups) <= GROUPS_MOST:
            break
    low, high = _span(weights)
    table = _table("log10|w| by group", "group", "RMS", "not finite", f"{low:+d} … {high:+d}")
    for name, tensors in list(groups.items())[:GROUPS_MOST]:
        elements = sum(t.elements - t.bad for t in tensors)
        rms = math.hypot(*(t.norm for t in tensors)) / math.sqrt(elements) if elements else math.nan
        bad = sum(t.bad for t in tensors)
        bad_text = Text(f"{bad:,}" if bad else "", style="red")
        table.add_row(name, number(rms), bad_text, _bars(tensors, low, high))
    if len(groups) > GROUPS_MOST:
        table.add_row(f"… {len(groups) - GROUPS_MOST} more", "", "", "")
    return table


def _span(tensors: Sequence[TensorFacts]) -> tuple[int, int]:
    """Whole decades that hold something."""
    sums = _sum(tensors)
    filled = [place for place, value in enumerate(sums) if value]
    if not filled:
        return -3, 1
    decade = len(sums) / (HISTOGRAM_HIGH - HISTOGRAM_LOW)
    low = HISTOGRAM_LOW + math.floor(filled[0] / decade)
    return low, HISTOGRAM_LOW + math.ceil((filled[-1] + 1) / decade)


def _sum(tensors: Sequence[TensorFacts]) -> list[int]:
    known = [t.histogram for t in tensors if t.histogram]
    return [sum(column) for column in zip(*known, strict=True)]


def _bars(tensors: Sequence[TensorFacts], low: int, high: int) -> str:
    sums = _sum(tensors)
    if not sums:
        return ""
    decade = len(sums) // (HISTOGRAM_HIGH - HISTOGRAM_LOW)
    part = sums[(low - HISTOGRAM_LOW) * decade : (high - HISTOGRAM_LOW) * decade]
    bars = _BARS if (sys.stdout.encoding or "").lower().startswith("utf") else _ASCII_BARS
    most = max(part, default=0)
    # By the root, so that a tail of one in a thousand still shows.
    return "".join(
        bars[min(int(len(bars) * math.sqrt(v / most)), len(bars) - 1)] if v else " " for v in part
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    table.columns[-1].justify = "left"
    return table


# --- optimizers and the rest ---------------------------------------------------------------------


def _optimizer(optimizer: OptimizerFacts, top: int) -> RenderableType:
    table = _table(f"Optimizer {optimizer.name} ({optimizer.kind})", "what", "value")
    steps = number(optimizer.steps_high)
    if optimizer.steps_low != optimizer.steps_high:
        steps = f"{number(optimizer.steps_low)} to {steps} (parameters differ)"
    if optimizer.steps_high:
        table.add_row("steps", steps)
    for place, group in enumerate(optimizer.groups[:top]):
        settings = ", ".join(f"{k} {number(v)}" for k, v in group.settings.items())
        if group.lr_factor != 1.0:
            settings += f", held at × {number(group.lr_factor)} by nanwatch"
        table.add_row(f"group {place}, {count(group.parameters, 'parameter')}", settings)
    ratio = update_ratio(optimizer)
    if ratio:
        table.add_row("last update / weights", number(ratio))
    if optimizer.kind == "Adam" and optimizer.states:
        table.add_row("|m| / √v (noise 0.23, steady 1)", number(rise_of(optimizer)))
        largest = max(optimizer.states, key=lambda s: s.v_max)
        table.add_row(
            "largest gradient by √v",
            f"{number(math.sqrt(max(largest.v_max, 0.0)))} ({largest.name})",
        )
    return table


def _beside(facts: CheckpointFacts, top: int) -> Iterator[RenderableType]:
    if facts.recurrent:
        table = _table("Recurrent matrices", "block", "radius", "spectral norm")
        for block in sorted(facts.recurrent, key=gain, reverse=True)[:top]:
            radius = number(block.radius) if block.radius >= 0 else "too large"
            table.add_row(f"{block.name} [{block.block}]", radius, number(block.spectral_norm))
        yield table
    variances = [t for t in facts.tensors if t.name.endswith("running_var") and t.elements]
    if variances:
        table = _table("Running statistics", "what", "least", "greatest")
        low, high = min(t.low for t in variances), max(t.high for t in variances)
        table.add_row(f"variance ({len(variances)} layers)", number(low), number(high))
        means = [t for t in facts.tensors if t.name.endswith("running_mean") and t.elements]
        if means:
            low, high = min(t.low for t in means), max(t.high for t in means)
            table.add_row("mean", number(low), number(high))
        yield table
    if facts.copies:
        table = _table("Copies", "copy", "of", "tensors", "distance / weights")
        for copy in facts.copies:
            table.add_row(copy.name, copy.of, str(copy.tensors), number(copy.distance))
        yield table
    for name, scaler in facts.scalers.items():
        yield Text(f"Loss scale {name}: {number(scaler.get('scale', math.nan))}")


def _changes(changes: Sequence[ChangeFacts], earlier: str, top: int) -> Iterator[RenderableType]:
    table = _table(f"Changed most since {earlier}", "tensor", "norm before", "now", "change/before")
    moved = [c for c in changes if not c.same and c.elements]
    moved.sort(key=lambda c: (-c.bad_after, -c.relative))
    for change in moved[:top]:
        relative = "not finite" if change.bad_after else number(change.relative)
        table.add_row(change.name, number(change.before), number(change.after), relative)
    yield table
    same = sum(c.same for c in changes if c.elements)
    yield Text(f"{same} of {sum(c.elements > 0 for c in changes)} tensors did not change at all.")


def _backward(found: BackwardFacts, top: int) -> Iterator[RenderableType]:
    got = [g for g in found.gradients if not g.missing]
    norms = [math.inf if g.bad else g.norm for g in got]
    table = _table(f"One backward pass of {found.factory}", "what", "value")
    table.add_row("loss", number(found.losses[0]) if found.losses else "none: the pass raised")
    if len(found.totals) > 1:
        total = f"median {number(percentile(found.totals, 0.5))}, most {number(max(found.totals))}"
        table.add_row(f"gradient norm of {len(found.totals)}", total)
    else:
        table.add_row("gradient norm", number(found.totals[0]) if found.totals else "none")
    shares = ((0.0, "least"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "most"))
    listed = ", ".join(f"{name} {number(percentile(norms, share))}" for share, name in shares)
    table.add_row(f"of {len(got)} parameters", listed)
    for time in found.times:
        growth = f", gradient × {time.growth:.3g} a step back" if time.growth != 1.0 else ""
        table.add_row(f"through time: {time.name}", f"{time.steps} steps{growth}")
    table.add_row("longest chain of operations", f"{found.chain:,}")
    if found.first_forward or found.first_backward:
        first = f"forward {found.first_forward or '-'}, backward {found.first_backward or '-'}"
        table.add_row("first not finite", first)
    for note in found.notes:
        table.add_row("note", note)
    yield table
    table = _table("Largest gradients", "parameter", "norm", "not finite", "weights' norm")
    for g in sorted(got, key=lambda g: (-g.bad / max(g.elements, 1), -g.norm))[:top]:
        bad = f"{g.bad:,} of {g.elements:,}" if g.bad else ""
        norm = "not finite" if g.bad and g.bad == g.elements else number(g.norm)
        table.add_row(g.name, norm, bad, number(g.weight_norm))
    yield table


# --- for programs --------------------------------------------------------------------------------


def as_json(
    facts: CheckpointFacts, verdict: Verdict, backward: BackwardFacts | None
) -> dict[str, Any]:
    """Everything, as JSON can hold it: numbers that are not finite as words."""
    weights = [t for t in facts.tensors if t.role == "weight" and t.elements]
    norms = [t.norm for t in weights]
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    found = {
        "file": facts.path,
        **msgspec.to_builtins(verdict),
        "weights": {
            "tensors": len(weights),
            "elements": sum(t.elements for t in weights),
            "norm": {name: percentile(norms, share) for name, share in shares},
        },
        "checkpoint": msgspec.to_builtins(facts),
        "backward": msgspec.to_builtins(backward) if backward is not None else None,
    }
    return _plain(found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value
