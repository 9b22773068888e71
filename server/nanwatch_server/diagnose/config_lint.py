"""What a configuration alone lets expect, before the first step. Notices, never alarms.

Pure; called by the pipeline when a run's facts are known or change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from nanwatch_server.diagnose.case import FROM_START, LR_NAMES, Case
from nanwatch_server.diagnose.remedies import clip, full_precision, truncate
from nanwatch_server.domain.facts import fact, fact_number, is_on, number
from nanwatch_server.domain.models import Evidence, Finding, Severity

NAME = "config_lint"
LR_LEAST = 1e-7


class Remark(NamedTuple):
    """One thing worth knowing."""

    key: str
    title: str
    message: str


def lint(run_id: str, facts: Mapping[str, str], step: int, time: float) -> list[Finding]:
    """Notices on the configuration `facts`, in the order of `CHECKS`.

    What the SDK tells of model and optimizer with the first steps was so before them: an export of
    the run knows it from its first line, and must be told the same.
    """
    step = 0 if step <= FROM_START else step
    case = Case((), facts)
    found = [remark for check in CHECKS if (remark := check(case)) is not None]
    return [
        Finding(
            run_id=run_id,
            rule=NAME,
            severity=Severity.NOTICE,
            step=step,
            onset_step=step,
            time=time,
            title=remark.title,
            message=remark.message,
            layer=remark.key,
            evidence=(Evidence(label=remark.key, value=fact(facts, remark.key) or "not set"),),
        )
        for remark in found
    ]


def _long_unroll(case: Case) -> Remark | None:
    if not case.untruncated:
        return None
    return Remark(
        "bptt_window",
        f"Gradients flow through {case.length} time steps without truncation",
        f"Each of {case.length} steps multiplies the gradient, so it explodes or fades. "
        f"{truncate(case).text}",
    )


def _recurrent_without_clip(case: Case) -> Remark | None:
    clips = (fact_number(case.facts, *case.clip_names) or 0) > 0
    if not case.recurrent or clips or not case.speaks_of_clips:
        return None  # where the configuration says nothing of clipping, the data will
    return Remark("clip_grad", "Recurrent network without gradient clipping", clip(case).text)


def _half_on_mps(case: Case) -> Remark | None:
    device = (fact(case.facts, "device", "accelerator") or "").lower()
    if not (case.half_precision and "mps" in device):
        return None
    return Remark(
        "mixed_precision",
        "Mixed precision on MPS",
        f"Autocast overflows on Apple's GPUs in ways it does not elsewhere. "
        f"{full_precision(case).text}",
    )


def _rate(case: Case) -> Remark | None:
    lr = fact_number(case.facts, *LR_NAMES)
    if lr is None or lr == 0:
        return None
    if lr < LR_LEAST:
        return Remark("lr", f"Learning rate {number(lr)} is below {number(LR_LEAST)}",
                      "Steps of this size rarely move anything.")  # fmt: skip
    if case.rate_large:
        most, name = number(case.rate_most), case.optimizer
        return Remark(
            "lr",
            f"Learning rate {number(lr)} is above {most} for {name}",
            f"{name} is rarely stable above {most} without a warm-up.",
        )
    return None


def _filter(case: Case) -> Remark | None:
    if not is_on(case.facts, "logging_nan_inf_filter"):
        return None  # where only the log tells whose it is, nobody has chosen it
    return Remark(
        "logging_nan_inf_filter",
        "The trainer hides a loss that is not finite",
        "`logging_nan_inf_filter` replaces a NaN loss by the running average in the log; set it to "
        "False to see it.",
    )


def _undiscounted(case: Case) -> Remark | None:
    gamma = fact_number(case.facts, "gamma", "discount")
    endless = is_on(case.facts, "bootstrap_on_timeout", "continuing")
    if gamma is None or gamma < 1 or not endless:
        return None
    return Remark("gamma", "Discount of 1 without an end of episodes",
                  "Values have no bound then; use 0.99 or less.")  # fmt: skip


def _swapped_betas(case: Case) -> Remark | None:
    if not case.swapped_betas:
        return None
    return Remark(
        "betas",
        f"Adam's betas are {case.swapped_betas}: are they swapped?",
        "The momentum remembers longer than the second moment, so steps grow after every rare "
        "gradient. Usual are (0.9, 0.999); beta1 must be below the root of beta2.",
    )


CHECKS: tuple[Callable[[Case], Remark | None], ...] = (
    _long_unroll,
    _recurrent_without_clip,
    _half_on_mps,
    _rate,
    _filter,
    _undiscounted,
    _swapped_betas,
)
"""One line each."""
