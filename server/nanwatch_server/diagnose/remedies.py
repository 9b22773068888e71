"""Things to try, each with its exact value. Used by the table in `syndromes`."""

from __future__ import annotations

import math

from nanwatch_server.diagnose.case import CLIP_NAMES, WINDOW_NAMES, Case
from nanwatch_server.domain.facts import fact, fact_number, number
from nanwatch_server.domain.models import Suggestion


def scale_lr(case: Case, factor: float = 0.1) -> Suggestion:
    """Lower the learning rate now."""
    lr = fact_number(case.facts, "lr", "learning_rate")
    change = f" ({number(lr)} → {number(lr * factor)})" if lr else ""
    return Suggestion(
        text=f"Lower the learning rate to {number(factor)} of its schedule{change}. "
        "Slows the growth; what drives it stays.",
        treats="symptom",
        command="scale_lr",
        args={"factor": factor},
    )


def checkpoint(case: Case) -> Suggestion:
    """Keep what there is."""
    return Suggestion(
        text=f"Save a checkpoint now. To go back, prefer one from before step {case.onset}.",
        treats="symptom",
        command="checkpoint",
    )


def stop(case: Case) -> Suggestion:
    """Stop, with a checkpoint."""
    return Suggestion(
        text=f"Stop the run and go back to a checkpoint from before step {case.onset}.",
        treats="symptom",
        command="stop",
        args={"checkpoint": True},
    )


def truncate(case: Case) -> Suggestion:
    """Shorter back-propagation through time."""
    window = 16 if 0 < case.length <= 32 else 32
    key = fact_key(case, WINDOW_NAMES) or "bptt_window"
    of = f" instead of {case.length}" if case.length else ""
    return Suggestion(
        text=f"Let gradients flow through {window} time steps{of} "
        "(truncated back-propagation through time).",
        treats="cause",
        copy=f"--{key.replace('_', '-')} {window}",
    )


def clip(case: Case, value: float = 1.0) -> Suggestion:
    """Clip, or clip tighter."""
    key = fact_key(case, CLIP_NAMES)
    now = case.clip
    if math.isfinite(now) and now > value:
        text = f"Clip at {number(value)} instead of {number(now)}."
    else:
        text = f"Clip the gradient norm at {number(value)} before each optimizer step."
    copy = (
        f"--{key.replace('_', '-')} {number(value)}"
        if key
        else f"torch.nn.utils.clip_grad_norm_(model.parameters(), {number(value)})"
    )
    bounded = not math.isfinite(now)
    return Suggestion(text=text, treats="cause" if bounded else "symptom", copy=copy)


def orthogonal(case: Case) -> Suggestion:
    """Start recurrent weights where they neither grow nor shrink a signal."""
    return Suggestion(
        text="Start the recurrent weights orthogonal, so that repeated steps do not amplify.",
        treats="cause",
        copy='for n, p in model.named_parameters():\n    if "weight_hh" in n:\n'
        "        torch.nn.init.orthogonal_(p)",
    )


def warm_up(case: Case) -> Suggestion:
    """Begin with small steps."""
    return Suggestion(
        text="Start again with a lower peak learning rate and 500 steps of linear warm-up.",
        treats="cause",
    )


def reward_scale(case: Case) -> Suggestion:
    """Bring rewards to about 1."""
    reward = case.reward if case.reward > 0 else 1000.0
    old = fact_number(case.facts, "reward_scale") or 1.0
    value = 10.0 ** -math.floor(math.log10(reward))
    return Suggestion(
        text=f"Scale rewards by {number(value)} so that the largest, {number(reward)}, "
        f"comes to about {number(float(f'{reward * value:.1g}'))}.",
        treats="cause",
        copy=f"reward_scale: {number(old * value)}",
    )


def slow_target(case: Case) -> Suggestion:
    """Slower target network."""
    tau = fact_number(case.facts, "tau", "polyak")
    value = 0.005 if tau is None or tau > 0.005 else tau / 2
    was = f" instead of {number(tau)}" if tau else ""
    return Suggestion(
        text=f"Update the target networks more slowly: tau {number(value)}{was}.",
        treats="cause",
        copy=f"tau: {number(value)}",
    )


def steadier_critic(case: Case) -> Suggestion:
    """The known cures of bootstrap divergence."""
    return Suggestion(
        text="Take the smaller of two critics as target and put LayerNorm into the critics.",
        treats="cause",
    )


def finite_rows(case: Case) -> Suggestion:
    """Keep what is not finite out of the buffer."""
    return Suggestion(
        text="Store only finite outputs, limited to ±10, and drop stored rows that are not: "
        "replay feeds every bad row back into later batches.",
        treats="cause",
        copy="if torch.isfinite(logits).all():\n    buffer.add(x, y, logits.clamp(-10, 10))",
    )


def replay_weight(case: Case) -> Suggestion:
    """Less weight on replay."""
    weight = fact_number(case.facts, "replay_alpha", "alpha", "replay_weight")
    value = f"{number(weight)} → {number(weight / 2)}" if weight else "half of its value"
    return Suggestion(text=f"Lower the weight of the replay loss: {value}.", treats="symptom")


def full_precision(case: Case) -> Suggestion:
    """Leave half precision."""
    return Suggestion(
        text="Train in fp32 or bf16: fp16 ends at 65504.",
        treats="cause",
        copy="--mixed-precision 0" if fact(case.facts, "mixed_precision") else "",
    )


def find_operation(case: Case) -> Suggestion:
    """Find the operation that made it."""
    return Suggestion(
        text="Trace the next 50 attempts: it names the layer that comes first. Anomaly mode names "
        "the operation. Look for log or division of 0, square roots at 0 and bad input rows.",
        treats="cause",
        command="arm_tracing",
        args={"steps": 50},
        copy="torch.autograd.set_detect_anomaly(True)",
    )


def skip_batches(case: Case) -> Suggestion:
    """The PaLM recipe."""
    return Suggestion(
        text=f"Go back to a checkpoint about 100 steps before {case.onset} and skip 200 to 500 "
        "batches; the same batches from another state rarely spike again.",
        treats="cause",
    )


def mask_warning(case: Case) -> Suggestion:
    """What not to rely on."""
    return Suggestion(
        text="nan_to_num on losses or outputs hides this from every chart; use it only to get "
        "through, never as the cure.",
        treats="symptom",
    )


def fact_key(case: Case, names: tuple[str, ...]) -> str | None:
    """The name under which the configuration knows one of `names`."""
    for name in names:
        for key in case.facts:
            leaf = key.replace("/", ".").rsplit(".", 1)[-1]
            if leaf.lower().replace("-", "_") == name.lower():
                return leaf
    return None
