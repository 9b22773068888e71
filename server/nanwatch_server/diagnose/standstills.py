"""Causes of trainings that run and learn nothing. Entries of the table in `syndromes`."""

from __future__ import annotations

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.syndrome import CRITICAL, Syndrome
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact, fact_number, number
from nanwatch_server.domain.models import Suggestion

Signs = tuple[list[str], list[str]]


def _signs_still(case: Case) -> Signs:
    found = case.of("idle_weights")
    lr = fact_number(case.facts, "lr", "learning_rate")
    if found is not None and found.kind == "lr" and lr:
        return [f"The configuration asks for a learning rate of {number(lr)}."], []
    return [], []


def _signs_flat(case: Case) -> Signs:
    pro = ["The loss has not moved."] if case.has("plateau") else []
    act = (fact(case.facts, "activation", "act", "nonlinearity") or "").lower()
    if act in ("sigmoid", "tanh"):
        pro.append(f"Activation {act}: its slope is below 1, layer after layer.")
    elif "relu" in act:
        pro.append(f"Activation {act}: units that never fire get no gradient.")
    return pro, []


def _signs_plateau(case: Case) -> Signs:
    return [], ["Gradients, units and updates show no reason, as far as they are measured."]


def _signs_hollow(case: Case) -> Signs:
    most = number(case.reward)
    pro = [f"The largest reward is {most}: far from 1."] if case.large_rewards else []
    return pro, ["A policy that was good from the start has no more to gain: then all is well."]


def _try_still(case: Case) -> list[Suggestion]:
    found = case.of("rate_gone") or case.of("idle_weights")
    kind = found.kind if found is not None else ""
    first = do.restore_lr(case) if kind == "lr" else do.check_graph(case)
    if case.evidence("update_norm", labels.CLEARED_EARLY):
        first = do.clear_later(case)
    if case.has("undone"):
        first = do.keep_updates(case)
    return [first, do.stop(case), do.checkpoint(case)]


def _try_vanishing(case: Case) -> list[Suggestion]:
    return [do.residual(case), do.better_start(case), do.normalise_layers(case), do.stop(case),
            do.checkpoint(case)]  # fmt: skip


def _try_unreached(case: Case) -> list[Suggestion]:
    return [do.straight_through(case), do.check_graph(case), do.stop(case), do.checkpoint(case)]


def _try_dead(case: Case) -> list[Suggestion]:
    return [do.leaky(case), do.lower_lr(case), do.normalise_inputs(case), do.stop(case),
            do.checkpoint(case)]  # fmt: skip


def _try_saturated(case: Case) -> list[Suggestion]:
    return [do.normalise_inputs(case), do.better_start(case), do.lower_lr(case), do.stop(case),
            do.checkpoint(case)]  # fmt: skip


def _try_plateau(case: Case) -> list[Suggestion]:
    return [do.overfit_one_batch(case), do.check_graph(case), do.search_lr(case), do.stop(case),
            do.checkpoint(case)]  # fmt: skip


def _try_overfit(case: Case) -> list[Suggestion]:
    return [do.regularise(case), do.roll_back(case), do.stop(case), do.checkpoint(case)]


def _try_hollow(case: Case) -> list[Suggestion]:
    tries = [do.fit_targets(case), do.check_states(case)]
    tries += [do.reward_scale(case)] if case.large_rewards else []
    return [*tries, do.stop(case), do.checkpoint(case)]


def _try_posterior(case: Case) -> list[Suggestion]:
    return [do.smaller_beta(case), do.stop(case), do.checkpoint(case)]


def _try_stale(case: Case) -> list[Suggestion]:
    return [do.evaluate_what_is_trained(case), do.keep_what_is_trained(case),
            do.stop_choosing(case)]  # fmt: skip


def _try_stall(case: Case) -> list[Suggestion]:
    return [do.find_the_block(case), do.stop(case), do.checkpoint(case)]


def _score_still(case: Case) -> float:
    if case.has("rate_gone") or case.has("undone"):
        return 0.84
    if not case.has("idle_weights"):
        return 0.0
    no_gradient = any(f.rule == "idle_weights" and f.kind == "grad_norm" for f in case.findings)
    dead = no_gradient and case.has("dead_units", CRITICAL)
    return 0.7 if dead else 0.86  # dead units let no gradient through: they are the reason


def _behind_dead(case: Case) -> bool:
    """Units that are 0 for every input leave the weights behind them without a gradient."""
    return case.has("unreached") and not case.unreached_from_start


def _score_dead(case: Case) -> float:
    if case.has("dead_units", CRITICAL):
        return 0.82
    return 0.78 if case.has("dead_units") or _behind_dead(case) else 0.0


def _score_plateau(case: Case) -> float:
    small = case.of("update_ratio")
    if small is not None and "too small" in small.title:
        return 0.6
    if case.has("above_chance") and case.evidence("loss", labels.LOSS_STANDS):
        return 0.6  # weights that cannot move, rather than logits too large
    still = ("plateau", "coin_toss", "flat_validation", "above_chance")
    return 0.45 if any(map(case.has, still)) else 0.0


STANDSTILLS: tuple[Syndrome, ...] = (
    Syndrome(
        "frozen-weights",
        _score_still,
        ("idle_weights", "undone", "rate_gone"),
        "Steps are taken and the loss prints, but the weights do not change, or by next to "
        "nothing: nothing can be learnt, however long it runs.",
        _signs_still,
        _try_still,
    ),
    Syndrome(
        "vanishing-gradient",
        lambda case: 0.8 if case.has("vanishing_gradient") else 0.0,
        ("vanishing_gradient",),
        "Each layer shrinks the gradient on its way back, so the first layers, which the others "
        "build on, hardly move. More steps do not help; another path for the gradient does.",
        _signs_flat,
        _try_vanishing,
    ),
    Syndrome(
        "no-gradient",
        lambda case: 0.84 if case.unreached_from_start else 0.0,
        ("unreached",),
        "Between these weights and the loss stands an operation that has no gradient (rounding, "
        "a comparison, argmax, an index, .data, .detach()), or everything that comes into "
        "the layer is 0. What else the layer has, its bias mostly, learns; the weights never will.",
        lambda case: ([], []),
        _try_unreached,
    ),
    Syndrome(
        "dead-units",
        _score_dead,
        ("dead_units", "unreached"),
        "A unit that is zero for every input passes no gradient, so it can never come back. Large "
        "steps, a bad bias or inputs far from 0 kill many at once.",
        _signs_flat,
        _try_dead,
    ),
    Syndrome(
        "saturated-units",
        lambda case: 0.74 if case.has("saturated_units") else 0.0,
        ("saturated_units",),
        "Units at the end of their range have a slope near 0: the gradient stops at them. Inputs "
        "or weights are too large for the activation.",
        _signs_flat,
        _try_saturated,
    ),
    Syndrome(
        "not-learning",
        _score_plateau,
        ("plateau", "coin_toss", "flat_validation", "above_chance", "update_ratio"),
        "The loss stands where it began, and noise does not explain it. Labels, the learning rate "
        "or the graph between loss and weights are the usual reasons.",
        _signs_plateau,
        _try_plateau,
    ),
    Syndrome(
        "posterior-collapse",
        lambda case: 0.8 if case.has("posterior_collapse") else 0.0,
        ("posterior_collapse",),
        "The KL term outweighs what the latent code brings to the reconstruction, so the encoder "
        "gives the prior for every input and the decoder learns to do without it.",
        lambda case: ([], []),
        _try_posterior,
    ),
    Syndrome(
        "hollow-loss",
        lambda case: 0.7 if case.has("hollow_loss") else 0.0,
        ("hollow_loss",),
        "The loss measures how well targets are met, not how good the policy is. One that is all "
        "but gone while rewards stand still has found targets that say nothing of them.",
        _signs_hollow,
        _try_hollow,
    ),
    Syndrome(
        "overfitting",
        lambda case: 0.7 if case.has("validation_loss") else 0.0,
        ("validation_loss",),
        "The training data is learnt by heart, or is unlike what the evaluation asks: every "
        "further step makes the model worse where it counts.",
        lambda case: ([], []),
        _try_overfit,
    ),
    Syndrome(
        "stale-evaluation",
        lambda case: 0.8 if case.has("stale_evaluation") else 0.0,
        ("stale_evaluation",),
        "No two evaluations of a model that moves are equal to the last bit. What is evaluated "
        "does not change, so it says nothing of the training, and neither does the best "
        "checkpoint that is chosen by it.",
        lambda case: ([], []),
        _try_stale,
    ),
    Syndrome(
        "stall",
        lambda case: 0.8 if case.has("stall") else 0.0,
        ("stall",),
        "The process lives or died without a word, and no attempt has come for far longer than its "
        "pace lets expect.",
        lambda case: ([], []),
        _try_stall,
    ),
)
