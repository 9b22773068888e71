"""What one forward and backward pass means, and the recommended fix with its exact value. Pure.

Bounds are those of the live rules: docs/rules.md, docs/diagnose.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from nanwatch.forensics.checkpoint.facts import (
    BackwardFacts,
    CheckpointFacts,
    GradientFacts,
    TimeFacts,
)
from nanwatch.forensics.checkpoint.findings import Advice, Finding, count, number, some

EXPLODED = 1e6
"""Above this a gradient's direction is noise, and clipping keeps only the direction."""

LARGE = 1e3
VANISHED_RATIO, VANISHED_FIRST = 1e-3, 1e-4
"""First layer against last (AutoTrainer)."""

WINDOW = 32
SHORT_WINDOW = 16
WINDOW_GROWTH_MOST = 1e6
WINDOW_LEAST = 4

LARGE_VALUE = 1e4

_LENGTHS = ("t", "timesteps", "seq_len", "sequence_length", "seq_length", "rollout_steps",
            "horizon", "unroll", "rollout_length")  # fmt: skip
_WINDOWS = ("bptt_window", "bptt", "tbptt", "tbptt_steps", "truncated_bptt_steps", "bptt_len")
_PATH = re.compile(r"[./:\\]")


def judge_backward(found: BackwardFacts, file: CheckpointFacts) -> list[Finding]:
    """Findings of `--script`, the fix with each."""
    findings = [*_loss(found), *_gradients(found, file)]
    missing = [g.name for g in found.gradients if g.missing]
    if missing and len(missing) < len(found.gradients):
        findings.append(
            Finding(
                "no-gradient",
                "notice",
                f"No gradient reached {count(len(missing), 'parameter')}: {some(missing)}.",
                missing,
            )
        )
    return findings


def fact(config: Mapping[str, str], *names: str) -> float | None:
    """The first of `names` in a configuration that is a positive number, whatever its path."""
    leaves = {_PATH.split(key)[-1].lower().replace("-", "_"): v for key, v in config.items()}
    for name in names:
        try:
            value = float(leaves.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None


def percentile(values: list[float], share: float) -> float:
    """The nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


# --- forward -------------------------------------------------------------------------------------


def _loss(found: BackwardFacts) -> Iterator[Finding]:
    loss = found.losses[0] if found.losses else math.nan
    broke = not found.losses
    if math.isfinite(loss) and not broke:
        return
    text = "The forward pass raised an error" if broke else f"The loss is {number(loss)}"
    if broke and found.notes:
        text = found.notes[-1][:1].upper() + found.notes[-1][1:]
    text = f"{text}. {found.text}".strip()
    where = [found.first_forward] if found.first_forward else []
    yield Finding("nonfinite-loss", "critical", text, where, list(_forward_fixes(found)))


def _forward_fixes(found: BackwardFacts) -> Iterator[Advice]:
    if found.origin == "parameters":
        yield Advice("Go back to a checkpoint whose weights are finite; nothing here can be saved.")
        return
    if found.origin == "data":
        yield Advice("Look at the batch: drop or repair rows that are not finite.", "cause",
                     "assert torch.isfinite(x).all()")  # fmt: skip
        return
    if found.half_precision:
        yield Advice("Train in bf16 or fp32: fp16 ends at 65,504.", "cause")
    yield Advice(
        f"Look at {found.first_forward or 'the loss'}: a log or division of 0, a square root at 0, "
        "an exp of a large number; add an eps there or bound its input.",
        "cause",
    )
    yield Advice("nan_to_num on outputs hides it and cures nothing.", "symptom")


# --- backward ------------------------------------------------------------------------------------


def _gradients(found: BackwardFacts, file: CheckpointFacts) -> Iterator[Finding]:
    got = [g for g in found.gradients if not g.missing]
    if not got or not found.losses or not math.isfinite(found.losses[0]):
        return
    bad = [g for g in got if g.bad]
    total = math.hypot(*(g.norm for g in got))
    if bad or total > EXPLODED:
        yield _exploded(found, file, got, bad, total)
        return
    if total > LARGE:
        fixes = list(_value_fixes(found, file, total)) or [_clip(), _scale_lr(file)]
        yield Finding(
            "large-gradient",
            "warning",
            f"The gradient norm is {number(total)} (loss {number(found.losses[0])}), largest in "
            f"{_largest(got)}: training goes on only as long as clipping or Adam hold it back.",
            [],
            fixes,
        )
    matrices = [g for g in got if g.elements > 1 and g.name.endswith("weight")]
    if len(matrices) >= 3:
        first, last = matrices[0], matrices[-1]
        if 0 < first.norm <= VANISHED_FIRST and first.norm <= VANISHED_RATIO * last.norm:
            yield Finding(
                "vanishing-gradient",
                "warning",
                f"The gradient of {first.name} is {number(first.norm)}, that of {last.name} "
                f"{number(last.norm)}: the first layers hardly learn.",
                [first.name],
                [
                    Advice("Residual connections or normalisation between layers.", "cause"),
                    Advice("ReLU-like activations with He initialisation.", "cause"),
                ],
            )


def _exploded(
    found: BackwardFacts,
    file: CheckpointFacts,
    got: list[GradientFacts],
    bad: list[GradientFacts],
    total: float,
) -> Finding:
    finite = [g.norm for g in got if not g.bad]
    name = "exploding-gradient"
    if bad and len(bad) == len(got):
        text = f"All {len(got)} gradients are not finite"
    elif bad:
        text = (
            f"{len(bad)} of {len(got)} gradients are not finite; the finite ones have norms up to "
            f"{number(max(finite))}"
        )
    else:
        text = f"The gradient norm is {number(total)}, the smallest {number(min(finite))}"
    text += f", although the loss is finite ({number(found.losses[0])})."
    if bad and found.text:
        text += f" {found.text}"
    time = through_time(found)
    if time is not None:
        fixes = list(_time_fixes(time, file))
        text += f" They grow on their way back through {time.steps} steps of {time.name}"
        text += f", {time.growth:.3g}-fold in each." if time.growth > 1.001 else "."
        text += " Clipping cannot help: it keeps the direction, and that is noise."
    elif found.recurrent:
        fixes = [_clip(), _orthogonal(), _scale_lr(file)]
    elif bad and "NaN" in found.text:
        name, fixes = "nonfinite-gradient", [_eps(), _no_clip_helps()]
    else:
        fixes = list(_value_fixes(found, file, total))
        if found.half_precision:
            fixes.append(Advice("Train in bf16 or fp32: fp16 ends at 65,504.", "cause"))
        fixes += [_clip(), _scale_lr(file)]
    return Finding(name, "critical", text, [g.name for g in bad], fixes)


def _eps() -> Advice:
    return Advice(
        "Keep what stands under a square root, a norm, a logarithm or a division away from 0, "
        "where its slope is infinite.",
        "cause",
        "torch.sqrt(x.clamp_min(1e-12))",
    )


def _no_clip_helps() -> Advice:
    return Advice(
        "Clipping and a lower rate cure nothing here: NaN times anything is NaN. Until it is "
        "mended, skip such updates.",
        "symptom",
        "nanwatch.guards.skip_nonfinite(optimizer)",
    )


def through_time(found: BackwardFacts) -> TimeFacts | None:
    """The loop through time that a gradient most likely grew in."""
    long = [t for t in found.times if t.steps > SHORT_WINDOW]
    return max(long, key=lambda t: (t.growth > 1.001, t.steps), default=None)


def window_for(time: TimeFacts) -> int:
    """Time steps that gradients may flow through."""
    window = WINDOW if time.steps > WINDOW else SHORT_WINDOW
    while window > WINDOW_LEAST and window * math.log(time.growth) > math.log(WINDOW_GROWTH_MOST):
        window //= 2
    return window


def _time_fixes(time: TimeFacts, file: CheckpointFacts) -> Iterator[Advice]:
    window = window_for(time)
    name = next(
        (k for k in _WINDOWS if any(_PATH.split(key)[-1].lower() == k for key in file.config)),
        "bptt_window",
    )
    length = fact(file.config, *_LENGTHS) or time.steps
    yield Advice(
        f"Let gradients flow through {window} time steps instead of {number(length)} (truncated "
        "back-propagation through time).",
        "cause",
        f"--{name.replace('_', '-')} {window}",
    )
    yield _scale_lr(file)
    if file.recurrent:
        yield _orthogonal()


def _value_fixes(found: BackwardFacts, file: CheckpointFacts, total: float) -> Iterator[Advice]:
    """A loss of squares of large targets, as in reinforcement learning."""
    size = math.sqrt(max(found.losses[0], 0.0))
    critics = any(re.search(r"(^|[._])(q\d?|qf\d?|critic|value)", g.name) for g in found.gradients)
    if size < LARGE_VALUE**0.5 or not (critics or fact(file.config, "gamma", "discount")):
        return
    old = fact(file.config, "reward_scale") or 1.0
    scale = 10.0 ** -math.floor(math.log10(size))
    yield Advice(
        f"Scale rewards by {number(scale)}: values are off by about {number(size)}.",
        "cause",
        f"reward_scale: {number(old * scale)}",
    )


def _clip() -> Advice:
    return Advice(
        "Clip the gradient norm at 1.0 before each step.",
        "symptom",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    )


def _scale_lr(file: CheckpointFacts) -> Advice:
    rates = (
        g.settings.get("initial_lr") or g.settings.get("lr")
        for o in file.optimizers
        for g in o.groups
    )
    rate = next((r for r in rates if r), fact(file.config, "lr", "learning_rate"))
    change = f" ({number(rate)} → {number(rate / 10)})" if rate else ""
    return Advice(f"Lower the learning rate by 10{change}.", "symptom",
                  f"--lr {rate / 10:g}" if rate else "")  # fmt: skip


def _orthogonal() -> Advice:
    return Advice(
        "Start recurrent weights orthogonal, so that repeated steps do not amplify.",
        "cause",
        "torch.nn.init.orthogonal_(weight_hh)",
    )


def _largest(got: list[GradientFacts]) -> str:
    worst = sorted(got, key=lambda g: -g.norm)[:3]
    return ", ".join(f"{g.name} ({number(g.norm)})" for g in worst)
