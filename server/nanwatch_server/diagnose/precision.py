"""Causes that hide in number formats and stand-ins for numbers. Entries of `syndromes`."""

from __future__ import annotations

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.syndrome import CRITICAL, Syndrome
from nanwatch_server.domain import labels
from nanwatch_server.domain.models import Suggestion

Signs = tuple[list[str], list[str]]


def _signs_scale(case: Case) -> Signs:
    pro = ["Mixed precision is on."] if case.half_precision else []
    if case.has("grad_explosion") or case.has("clip_saturation"):
        pro.append("The gradient norm grew as well.")
    return pro, []


def _signs_stand_in(case: Case) -> Signs:
    pro = []
    if case.has("nonfinite"):
        pro.append("Values that are not finite were seen elsewhere in the same run.")
    if case.filters_nan:
        pro.append(
            "`logging_nan_inf_filter` is on, as it is by default: the trainer logs the mean of "
            "the losses before a NaN in its place, and 0 where there are none."
        )
    return pro, []


def _signs_logits(case: Case) -> Signs:
    return (["The learning rate rose just before."], []) if case.rate_rise else ([], [])


def _try_scale(case: Case) -> list[Suggestion]:
    tries = [do.full_loss(case)] if case.has("half_loss") else []
    tries += [do.full_precision(case), do.lower_lr(case), do.clip(case)]
    return [*tries, do.scale_lr(case), do.checkpoint(case), do.sanitise(case)]


def _try_stand_in(case: Case) -> list[Suggestion]:
    tries = [do.unmask(case), do.find_operation(case), do.finite_batches(case)]
    return [*tries, do.stop(case), do.scale_lr(case), do.checkpoint(case)]


def _try_logits(case: Case) -> list[Suggestion]:
    return [do.z_loss(case), do.better_start(case), do.lower_lr(case), do.scale_lr(case),
            do.checkpoint(case)]  # fmt: skip


def _try_attention(case: Case) -> list[Suggestion]:
    return [do.qk_norm(case), do.lower_lr(case), do.scale_lr(case), do.checkpoint(case)]


def _try_edge(case: Case) -> list[Suggestion]:
    return [do.keep_off_the_edge(case), do.find_operation(case), do.lower_lr(case),
            do.scale_lr(case), do.checkpoint(case), do.hold_bad_updates(case)]  # fmt: skip


def _try_buffers(case: Case) -> list[Suggestion]:
    if case.has("idle_statistics"):
        return [do.train_mode(case), do.stop(case), do.scale_lr(case), do.checkpoint(case)]
    return [do.freeze_batchnorm(case), do.larger_batch(case), do.scale_lr(case),
            do.checkpoint(case)]  # fmt: skip


def _try_weights(case: Case) -> list[Suggestion]:
    return [do.weight_decay(case), do.lower_lr(case), do.scale_lr(case), do.checkpoint(case)]


def _score_stand_in(case: Case) -> float:
    if any(map(case.has, ("constant_loss", "stand_in", "masked_nan"))):
        return 0.87
    return 0.6 if case.has("repaired") else 0.0


def _score_buffers(case: Case) -> float:
    if case.has("idle_statistics"):
        return 0.86
    if (
        case.has("validation_loss")
        and case.evidence("buffer_abs_max_layer", labels.STATISTICS_MOVED) is not None
    ):
        return 0.79
    if case.evidence("buffer_abs_max_layer", labels.STATISTICS_UNFIT) is not None:
        return 0.72  # as likely as overfitting, which seldom falls behind an untrained model
    return 0.73 if case.has("buffer_drift") else 0.0


def _score_half(case: Case) -> float:
    if case.has("half_loss"):
        return 0.78
    return 0.66 if case.has("nonfinite") and case.half_precision else 0.0


def _score_logits(case: Case) -> float:
    if case.has("logit_growth"):
        return 0.77
    return 0.5 if case.has("above_chance") else 0.0


def _score_weights(case: Case) -> float:
    if case.unbounded:
        return 0.8
    if not (case.has("weight_growth") or case.swollen):
        return 0.0
    return 0.78 if case.has("logit_growth") else 0.58  # logits are what such weights make


PRECISIONS: tuple[Syndrome, ...] = (
    Syndrome(
        "sanitised-numbers",
        _score_stand_in,
        ("constant_loss", "stand_in", "masked_nan", "repaired"),
        "The loss on the chart stands in for one that is not finite. Nothing is learnt from it, "
        "and the trouble it hides goes on.",
        _signs_stand_in,
        _try_stand_in,
    ),
    Syndrome(
        "loss-scale-collapse",
        lambda case: (
            0.84
            if case.has("loss_scale") and not case.has("skip_streak", CRITICAL)
            else 0.5
            if case.has("loss_scale")
            else 0.0
        ),
        ("loss_scale",),
        "The scaler halves its scale whenever a gradient overflows fp16. When it keeps halving, "
        "gradients are too large for half precision at any scale, or already not finite.",
        _signs_scale,
        _try_scale,
    ),
    Syndrome(
        "half-precision-overflow",
        _score_half,
        ("nonfinite", "half_loss"),
        "fp16 ends at 65504: activations or gradients that fp32 would carry become infinite, and "
        "NaN one operation later.",
        _signs_scale,
        _try_scale,
    ),
    Syndrome(
        "edge-of-domain",
        lambda case: 0.79 if case.has("near_edge") else 0.0,
        ("near_edge", "nonfinite"),
        "A logarithm, root, quotient or exponential in the loss is fed ever nearer to where it is "
        "not defined. Nothing shows in the loss until one batch steps over; then all is NaN.",
        lambda case: ([], []),
        _try_edge,
    ),
    Syndrome(
        "attention-logit-growth",
        lambda case: 0.79 if case.has("attention_growth") else 0.0,
        ("attention_growth",),
        "Queries and keys grow until the softmax picks one position only; its gradient vanishes "
        "there and explodes elsewhere.",
        _signs_logits,
        _try_attention,
    ),
    Syndrome(
        "logit-growth",
        _score_logits,
        ("logit_growth", "above_chance"),
        "Nothing holds the size of the logits, only their differences count for the loss: they "
        "begin too large, or drift, until the softmax overflows or stops to learn.",
        _signs_logits,
        _try_logits,
    ),
    Syndrome(
        "batchnorm-drift",
        _score_buffers,
        ("idle_statistics", "buffer_drift", "validation_loss"),
        "Running statistics of normalisation layers do not fit the data: what is computed with "
        "them is not what was learnt, or is not normalised at all.",
        lambda case: ([], []),
        _try_buffers,
    ),
    Syndrome(
        "weight-growth",
        _score_weights,
        ("weight_growth", "weight_leap", "loss_growth", "loss_means"),
        "The weights grow without end: each step adds to them and nothing takes away.",
        lambda case: ([], []),
        _try_weights,
    ),
)
