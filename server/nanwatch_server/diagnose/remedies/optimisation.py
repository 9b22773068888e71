"""Things to try on the steps: clips, learning rates, truncation, the optimizer's own settings."""

from __future__ import annotations

import math

from nanwatch_server.diagnose.case import LR_NAMES, WINDOW_NAMES, Case
from nanwatch_server.diagnose.remedies.settings import fact_key, flag
from nanwatch_server.domain.facts import fact_number, number
from nanwatch_server.domain.models import Suggestion

WARM_UP_NAMES = ("warmup_steps", "num_warmup_steps", "warmup", "warmup_iters", "lr_warmup_steps")
DECAY_NAMES = ("weight_decay", "optim_wd", "wd")


def truncate(case: Case) -> Suggestion:
    """Shorter back-propagation through time."""
    window = 16 if 0 < case.length <= 32 else 32
    key = fact_key(case, WINDOW_NAMES) or "bptt_window"
    of = f" instead of {case.length}" if case.length else ""
    return Suggestion(
        text=f"Let gradients flow through {window} time steps{of} "
        "(truncated back-propagation through time).",
        treats="cause",
        copy=flag(key, window),
    )


def clip(case: Case, value: float = 1.0) -> Suggestion:
    """Clip, or clip tighter; never looser than a clip that did not suffice."""
    now, known = case.clip, math.isfinite(case.clip)
    if known and now <= value:
        value = float(f"{now / 2:.2g}")
        text = (
            f"Clip at {number(value)} instead of {number(now)}: shorter steps, no more. A clip is "
            "in force already, so what drives the growth lies elsewhere."
        )
    elif known:
        text = f"Clip at {number(value)} instead of {number(now)}."
    else:
        text = f"Clip the gradient norm at {number(value)} before each optimizer step"
        text += f", at {number(value / 2)} if that is not enough."
    key = fact_key(case, case.clip_names)
    if key is None and case.clip_source == "default":
        key = "max_grad_norm"
    return Suggestion(
        text=text,
        treats="symptom" if known else "cause",
        copy=flag(key, value)
        if key
        else f"torch.nn.utils.clip_grad_norm_(model.parameters(), {number(value)})",
    )


def warm_up(case: Case) -> Suggestion:
    """Begin with small steps."""
    now = fact_number(case.facts, *WARM_UP_NAMES) or 0.0
    key = fact_key(case, WARM_UP_NAMES)
    steps = max(500.0, 2 * now)
    instead = f" instead of {number(now)}" if now >= 1 else ""
    return Suggestion(
        text=f"Start again with a lower peak learning rate and {number(steps)} steps of linear "
        f"warm-up{instead}.",
        treats="cause",
        # a `warmup` below 1 is a share, which no number of steps fits
        copy=flag(key, steps)
        if key and not 0 < now < 1
        else "warm_up = torch.optim.lr_scheduler.LinearLR("
        f"optimizer, start_factor=0.1, total_iters={number(steps)})\n"
        "scheduler = torch.optim.lr_scheduler.SequentialLR("
        f"optimizer, [warm_up, scheduler], milestones=[{number(steps)}])",
    )


def lower_lr(case: Case, factor: float = 0.1) -> Suggestion:
    """Start again with a lower learning rate."""
    lr = fact_number(case.facts, *LR_NAMES)
    key = fact_key(case, LR_NAMES) or "lr"
    change = f": {number(lr)} → {number(lr * factor)}" if lr else f" to {number(factor)} of it"
    return Suggestion(
        text=f"Lower the peak learning rate{change}.",
        treats="cause",
        copy=flag(key, lr * factor)
        if lr
        else f'for group in optimizer.param_groups:\n    group["lr"] *= {number(factor)}',
    )


def decay_per_task(case: Case) -> Suggestion:
    """A rate that suits the first task is too much once old outputs are replayed."""
    lr = fact_number(case.facts, *LR_NAMES)
    return Suggestion(
        text="Lower the learning rate after each task, along a cosine down to 10 % of it.",
        treats="cause",
        copy="share = 0.5 * (1 + math.cos(math.pi * (task + 1) / tasks))\n"
        "for group in optimizer.param_groups:\n"
        f'    group["lr"] = {number(lr) if lr else "lr"} * max(0.1, share)',
    )


def line_search(case: Case) -> Suggestion:
    """What L-BFGS was made with, and torch leaves out."""
    lr = fact_number(case.facts, *LR_NAMES)
    return Suggestion(
        text="Give L-BFGS its line search: without one each step is as long as its picture of the "
        "curvature says, right or wrong. All calls of the closure must see the same batch.",
        treats="cause",
        copy=f"torch.optim.LBFGS(model.parameters(), lr={number(lr) if lr else 1}, "
        'line_search_fn="strong_wolfe")',
    )


def search_lr(case: Case) -> Suggestion:
    """Too small is as flat as too large."""
    lr = fact_number(case.facts, *LR_NAMES)
    key = fact_key(case, LR_NAMES) or "lr"
    tries = f" ({number(lr * 0.1)} and {number(lr * 10)})" if lr else ""
    return Suggestion(
        text=f"Try ten times less and ten times more learning rate{tries}.",
        treats="cause",
        copy=flag(key, lr * 10)
        if lr
        else 'for group in optimizer.param_groups:\n    group["lr"] *= 10',
    )


def restore_lr(case: Case) -> Suggestion:
    """A schedule that ended at 0, or a flag that set it."""
    lr = fact_number(case.facts, *LR_NAMES)
    to = f" back to {number(lr)}" if lr else ""
    return Suggestion(
        text=f"Set the learning rate{to}: a schedule that ended too early, or one stepped once a "
        "batch instead of once an epoch, leaves 0.",
        treats="cause",
        copy=f'for group in optimizer.param_groups:\n    group["lr"] = {number(lr or 1e-3)}',
    )


def zero_grad(case: Case) -> Suggestion:
    """A line that was forgotten."""
    return Suggestion(
        text="Call `optimizer.zero_grad()` once for every step, before the first backward pass "
        "that belongs to it. To add up several batches, clear after each step all the same.",
        treats="cause",
        copy="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    )


def swap_betas(case: Case) -> Suggestion:
    """A momentum that outlives the second moment."""
    return Suggestion(
        text=f"Swap Adam's betas, which are {case.swapped_betas}: the momentum remembers longer "
        "than the second moment, so steps grow after every rare gradient.",
        treats="cause",
        copy="betas=(0.9, 0.999)",
    )


def lower_beta2(case: Case) -> Suggestion:
    """A second moment that keeps up."""
    now = fact_number(case.facts, "beta2", "adam_beta2")
    was = f" instead of {number(now)}" if now else ""
    return Suggestion(
        text=f"With Adam: beta2 0.95{was}, so that the second moment keeps up with the gradient.",
        treats="cause",
        copy="betas=(0.9, 0.95)",
    )


def weight_decay(case: Case) -> Suggestion:
    """Something that takes away."""
    return Suggestion(
        text="Add weight decay (0.01 with AdamW), and check the sign of penalties on the weights.",
        treats="cause",
        copy="weight_decay: 0.01",
    )


def small_weight_decay(case: Case) -> Suggestion:
    """Enough to keep weights from drifting off over many tasks, too little to forget by."""
    key = fact_key(case, DECAY_NAMES)
    return Suggestion(
        text="Add a small weight decay of 1e-4, which bounds how far the weights drift.",
        treats="symptom",
        copy=flag(key, 1e-4) if key else "weight_decay: 0.0001",
    )


def clear_later(case: Case) -> Suggestion:
    """The order of the three calls."""
    return Suggestion(
        text="Call `zero_grad()` before `backward()` or after `step()`, never between the two.",
        treats="cause",
        copy="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    )
