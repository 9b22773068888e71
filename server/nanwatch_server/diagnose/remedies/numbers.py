"""Things to try on formats and on values that are not finite."""

from __future__ import annotations

from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.facts import fact
from nanwatch_server.domain.models import Suggestion


def full_precision(case: Case) -> Suggestion:
    """Leave half precision."""
    return Suggestion(
        text="Train in fp32 or bf16: fp16 ends at 65504.",
        treats="cause",
        copy="--mixed-precision 0"
        if fact(case.facts, "mixed_precision")
        else 'with torch.autocast("cuda", dtype=torch.bfloat16):',
    )


def full_loss(case: Case) -> Suggestion:
    """Keep half precision, but not for the loss."""
    return Suggestion(
        text="Compute the loss in fp32: squares, sums and exponentials of it end at 65504 in fp16.",
        treats="cause",
        copy="loss = criterion(outputs.float(), targets.float())",
    )


def unmask(case: Case) -> Suggestion:
    """Show what is hidden."""
    return Suggestion(
        text="Take out what replaces values that are not finite (nan_to_num, penalties, "
        "`logging_nan_inf_filter`), or skip such batches and count them.",
        treats="cause",
        copy="logging_nan_inf_filter=False"
        if case.filters_nan
        else "nanwatch.guards.skip_nonfinite(optimizer)",
    )


def sanitise(case: Case) -> Suggestion:
    """What most reports try first. It gets a run through, so it is offered, for what it is."""
    if case.recurrent and not case.scans:  # states of ±10 are large, outputs may be anything
        what, limit, copy = "states", "±10", "state = nanwatch.guards.sanitize(state, 10)"
    else:
        what, limit, copy = "outputs", "±1e6", "out = nanwatch.guards.sanitize(out, 1e6)"
    return Suggestion(
        text=f"Only to get through: replace what is not finite (nan_to_num: 0 in {what}, a penalty "
        f"of 1e6 for a loss) and clamp {what} to {limit}. It hides the trouble from every chart; "
        "`sanitize` at least counts what it replaced.",
        treats="symptom",
        copy=f"{copy}\nloss = nanwatch.guards.sanitize(loss, nan=1e6)",
    )


def hold_bad_updates(case: Case) -> Suggestion:
    """Weights stay well as long as only some batches are bad."""
    return Suggestion(
        text="Hold every update whose gradients are not finite, and count them: the weights stay "
        "as they were, and so does the reason.",
        treats="symptom",
        copy="nanwatch.guards.skip_nonfinite(optimizer)",
    )
