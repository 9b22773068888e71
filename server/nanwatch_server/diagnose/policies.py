"""Causes in games of two: policies and their data, generators and discriminators. Entries of
`syndromes`; values of critics are in `divergences`."""

from __future__ import annotations

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import RATIO_NAMES, Case
from nanwatch_server.diagnose.divergences import OF_LOSS
from nanwatch_server.diagnose.syndrome import Syndrome
from nanwatch_server.domain.facts import fact, fact_number, number
from nanwatch_server.domain.models import Suggestion

Signs = tuple[list[str], list[str]]


def _signs_entropy(case: Case) -> Signs:
    bonus = fact_number(case.facts, "ent_coef", "entropy_coef", "entropy_bonus")
    if bonus == 0:
        return ["The entropy bonus is 0."], []
    return ([], [f"There is an entropy bonus of {number(bonus)}."]) if bonus else ([], [])


def _signs_shift(case: Case) -> Signs:
    pro = ["The learning rate rose just before."] if case.rate_rise else []
    if case.rate_large:
        pro.append(f"A learning rate of {number(case.rate_large)} is rarely stable.")
    if case.has("entropy_collapse"):
        pro.append("The entropy collapsed with it.")
    return pro, []


def _score_shift(case: Case) -> float:
    if case.has("policy_shift"):
        return 0.76
    # surrogate losses with steps at which the optimizer is rarely stable: what breaks first differs
    broken = any(map(case.has, ("saturated_units", "dead_units", "entropy_collapse")))
    return 0.83 if broken and case.rate_large and fact(case.facts, *RATIO_NAMES) else 0.0


def _try_entropy(case: Case) -> list[Suggestion]:
    return [do.entropy_bonus(case), do.lower_lr(case), do.scale_lr(case), do.checkpoint(case)]


def _try_shift(case: Case) -> list[Suggestion]:
    return [do.lower_lr(case), do.stop_early_on_kl(case), do.scale_lr(case), do.checkpoint(case)]


def _try_value(case: Case) -> list[Suggestion]:
    return [do.normalise_returns(case), do.clip(case), do.scale_lr(case), do.checkpoint(case)]


def _score_adversaries(case: Case) -> float:
    rules = ("grad_explosion", "grad_level", "clip_saturation", "weight_growth", "weight_leap",
             *OF_LOSS)  # fmt: skip
    if not case.adversarial:
        return 0.0
    if any(case.has(rule) for rule in rules):
        return 0.81
    return 0.66 if case.has("nonfinite") else 0.0  # squared losses overflow within two records


def _try_adversary(case: Case) -> list[Suggestion]:
    return [do.weaker_discriminator(case), do.scale_lr(case), do.checkpoint(case)]


POLICIES: tuple[Syndrome, ...] = (
    Syndrome(
        "policy-update-too-large",
        _score_shift,
        ("policy_shift", "saturated_units", "dead_units", "entropy_collapse"),
        "Each update moves the policy so far that the data it was computed from no longer describe "
        "it; the next ones are learnt from behaviour that is already gone.",
        _signs_shift,
        _try_shift,
    ),
    Syndrome(
        "entropy-collapse",
        lambda case: 0.74 if case.has("entropy_collapse") else 0.0,
        ("entropy_collapse",),
        "A policy that always does the same sees nothing new, so nothing can tell it that "
        "something else is better.",
        _signs_entropy,
        _try_entropy,
    ),
    Syndrome(
        "value-function-failure",
        lambda case: 0.6 if case.has("explained_variance") else 0.0,
        ("explained_variance",),
        "The value function predicts returns worse than their mean would, so advantages are noise "
        "and the policy follows it.",
        lambda case: ([], []),
        _try_value,
    ),
    Syndrome(
        "gan-collapse",
        lambda case: 0.75 if case.has("adversary") else 0.0,
        ("adversary",),
        "A side that is always right has a flat loss: a discriminator of that kind tells the "
        "generator nothing about which way is better.",
        lambda case: ([], []),
        _try_adversary,
    ),
    Syndrome(
        "gan-divergence",
        _score_adversaries,
        ("grad_explosion", "grad_level", "loss_growth", "clip_saturation", "weight_growth"),
        "Each side drives the other to larger outputs and nothing bounds them: the losses run away "
        "from each other and the gradients grow with them.",
        lambda case: ([], []),
        _try_adversary,
    ),
)
