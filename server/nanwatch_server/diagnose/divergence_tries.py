"""What to try for each cause in `divergences`, best first: what treats the cause, then the dials
that a button turns, then what only masks it."""

from __future__ import annotations

import math

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.models import Suggestion


def gradient(case: Case) -> list[Suggestion]:
    tries = [do.truncate(case)] if case.untruncated else []
    tries += [] if math.isfinite(case.clip) else [do.clip(case)]
    tries += _steadier_model(case)
    tries += [do.start_layers(case), do.warm_up(case), do.lower_lr(case)]
    tries += [do.replace_recurrence(case)] if case.recurrent else []
    tries += [do.find_operation(case)]
    tries += [do.clip(case)] if math.isfinite(case.clip) else []
    return [*tries, do.scale_lr(case), do.checkpoint(case), *_masks(case)]


def _steadier_model(case: Case) -> list[Suggestion]:
    tries = [do.steady_state(case)] if case.recurrent else []
    return [*tries, do.normalise_layers(case)]


def _masks(case: Case) -> list[Suggestion]:
    """What gets a run through without curing it, last and named for what it is."""
    return [do.hold_bad_updates(case), do.sanitise(case)]


def kept(case: Case) -> list[Suggestion]:
    return [do.zero_grad(case), do.stop(case), do.scale_lr(case), do.checkpoint(case)]


def rate(case: Case) -> list[Suggestion]:
    if case.blind_quasi_newton:  # it scales by curvature: neither a clip nor a warm-up fits
        tries = [do.line_search(case), do.lower_lr(case)]
    else:
        tries = [do.lower_lr(case), do.warm_up(case)]
        tries += [] if math.isfinite(case.clip) else [do.clip(case)]
    return [*tries, do.scale_lr(case), do.roll_back(case), do.checkpoint(case)]


def hidden(case: Case) -> list[Suggestion]:
    through_time = case.untruncated or case.recurrent or not case.values
    tries = [do.truncate(case)] if through_time else [do.steadier_critic(case)]
    if case.recurrent:
        tries += [*_steadier_model(case), do.replace_recurrence(case)]
    tries += [do.lower_lr(case), do.find_operation(case)]
    return [*tries, do.scale_lr(case), do.checkpoint(case), do.sanitise(case)]


def reward(case: Case) -> list[Suggestion]:
    if case.has("tiny_rewards"):
        return [do.reward_scale(case), do.scale_lr(case), do.checkpoint(case)]
    tries = [do.reward_scale(case), do.slow_target(case), do.clip(case), do.lower_lr(case)]
    tries += [do.scale_lr(case), do.checkpoint(case), do.roll_back(case), do.stop(case)]
    return [*tries, do.finite_context(case), do.sanitise(case)]


def bootstrap(case: Case) -> list[Suggestion]:
    return [do.steadier_critic(case), do.slow_target(case), do.clip(case), do.lower_lr(case),
            do.scale_lr(case), do.checkpoint(case), do.finite_context(case)]  # fmt: skip


def skipped(case: Case) -> list[Suggestion]:
    tries = [do.truncate(case)] if case.untruncated or case.recurrent else []
    if case.half_precision:
        tries.append(do.full_precision(case))
    if case.values and case.large_rewards:
        tries.append(do.reward_scale(case))
    tries += [do.find_operation(case), do.lower_lr(case)]
    tries += [do.replace_recurrence(case)] if case.recurrent else []
    return [*tries, do.stop(case), do.scale_lr(case), do.checkpoint(case), do.sanitise(case)]


def replay(case: Case) -> list[Suggestion]:
    if case.empty_memory:
        return [do.check_states(case), do.check_graph(case), do.stop(case), do.checkpoint(case)]
    tries = [do.finite_rows(case)]
    tries += [] if math.isfinite(case.clip) else [do.clip(case)]
    if case.half_precision:
        tries.append(do.full_precision(case))
    tries += [do.lower_lr(case, 0.5), do.decay_per_task(case), do.freeze_batchnorm(case)]
    tries += [do.finite_batches(case), do.detach_hooks(case), do.replay_weight(case)]
    tries += [do.clip(case)] if math.isfinite(case.clip) else []
    tries += [do.small_weight_decay(case), do.scale_lr(case), do.checkpoint(case)]
    return [*tries, do.reset_head(case), do.sanitise(case)]


def nonfinite(case: Case) -> list[Suggestion]:
    tries = [do.find_operation(case), do.finite_batches(case)]
    if case.half_precision:
        tries.append(do.full_precision(case))
    if not math.isfinite(case.clip):
        tries.append(do.clip(case))
    tries += [do.stop(case), do.roll_back(case), do.scale_lr(case), do.checkpoint(case)]
    tries += [do.finite_context(case)] if case.values else []
    return [*tries, *_masks(case)]


def loss(case: Case) -> list[Suggestion]:
    first = [do.swap_betas(case)] if case.swapped_betas else []
    tries = [do.decay_per_task(case), do.freeze_batchnorm(case)] if case.has("task_shock") else []
    return [*first, do.skip_batches(case), *tries, do.warm_up(case), do.lower_beta2(case),
            do.scale_lr(case, 0.5), do.scale_lr(case), do.roll_back(case),
            do.checkpoint(case)]  # fmt: skip
