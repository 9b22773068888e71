"""What the page says of each rule and its limits: group, title, one sentence. No logic of rules.

Called by `rules`. Limits and their sources come from the packaged `rules.toml`; a rule that has no
words here yet is shown with the first line of its class.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Any, NamedTuple

from nanwatch_server.detect.registry import RULES, packaged_text

BROKEN, GRADIENTS, LOSS = "Broken numbers", "Gradients and clipping", "Loss"
STANDSTILL, WEIGHTS = "Nothing is learnt", "Weights and logits"
POLICIES, OTHERS = "Reinforcement learning", "Other"


class Words(NamedTuple):
    """Of one rule."""

    group: str
    title: str
    text: str


WORDS = {
    "nonfinite": Words(BROKEN, "NaN and infinity",
        "A loss, gradient, Q-value or reward is not finite; worst where the update was applied."),
    "skip_streak": Words(BROKEN, "Skipped updates",
        "Updates are skipped in a row: the weights stand still while the loss is still printed."),
    "constant_loss": Words(BROKEN, "Frozen loss",
        "The same loss, bit for bit, after one that varied: something replaces the real number."),
    "stand_in": Words(BROKEN, "Stand-in for a loss",
        "One number, bit for bit, comes back again and again far above the losses around it."),
    "masked_nan": Words(BROKEN, "NaN behind a finite loss",
        "Applied updates are not finite while the loss still reads well: something replaces NaN."),
    "repaired": Words(BROKEN, "Repaired numbers",
        "A guard keeps changing bad values, so the training only looks healthy."),
    "loss_scale": Words(BROKEN, "Loss scale collapse",
        "The loss scale of mixed precision keeps halving: gradients overflow whatever it is."),
    "half_loss": Words(BROKEN, "Loss near the end of float16",
        "A loss computed in half precision is so large that single terms of it may overflow."),
    "near_edge": Words(BROKEN, "Near the edge of a function",
        "What goes into a logarithm, root, quotient or exponential nears where it breaks."),
    "grad_explosion": Words(GRADIENTS, "Exploding gradients",
        "The gradient norm jumps or grows ever faster, in total or in a layer."),
    "grad_level": Words(GRADIENTS, "Gradients out of proportion",
        "The gradient norm is orders of magnitude above that of the untrained model."),
    "grad_spike": Words(GRADIENTS, "Gradient spikes",
        "A norm far above the last 128. Only a mark on the charts: healthy runs have some."),
    "kept_gradients": Words(GRADIENTS, "Gradients never set to zero",
        "Each attempt begins with the gradients of the one before: `zero_grad()` is missing."),
    "clip_saturation": Words(GRADIENTS, "Clipping hides growth",
        "Nearly every gradient is clipped, and its norm before that is far larger or rising."),
    "adam_rms": Words(GRADIENTS, "Adam lags behind",
        "Updates larger than Adam's second moment allows, which precedes spikes of the loss."),
    "loss_explosion": Words(LOSS, "Loss shoots up",
        "Two losses in a row far above the usual and the first: the only sign without gradients."),
    "loss_growth": Words(LOSS, "Loss grows ever faster",
        "The loss accelerates upwards, well above the level of the untrained model."),
    "loss_divergence": Words(LOSS, "Loss diverged",
        "The loss rose and stays far above its best and its beginning."),
    "loss_means": Words(LOSS, "Epochs grow worse",
        "In a log of means over many steps the loss stays far above its best."),
    "coin_toss": Words(LOSS, "Loss of guessing",
        "In a log of means over many steps the loss stands at ln 2, 10, 100 or 1000: it guesses."),
    "task_shock": Words(LOSS, "New task worse than none learnt",
        "After a change of task the loss is far above that of an untrained model."),
    "joint_rise": Words(LOSS, "Loss and gradient far above start",
        "Both have left far behind what the untrained model had."),
    "loss_spike": Words(LOSS, "Spike that does not heal",
        "A sudden rise that stays: half of what was learnt gone, or a multiple of the best."),
    "surge": Words(LOSS, "Loss and gradient leap together",
        "Leaps of both that follow each other: steps that overshoot, before any of them is fatal."),
    "validation_loss": Words(LOSS, "Validation gets worse",
        "Evaluations no better than an untrained model, after they had been three times better."),
    "oscillation": Words(LOSS, "Oscillation",
        "A loss that swings more and more. Only a mark: GANs and PPO do it in good health."),
    "plateau": Words(STANDSTILL, "Plateau",
        "The loss has not moved from where it began, or never been below that."),
    "above_chance": Words(STANDSTILL, "Worse than guessing",
        "A cross-entropy that was never near what guessing among the classes costs."),
    "idle_weights": Words(STANDSTILL, "Weights do not move",
        "Steps are taken, but learning rate, gradient or update is exactly zero."),
    "undone": Words(STANDSTILL, "Updates undone",
        "Weights stand where they stood before, bit for bit, though steps are taken."),
    "unreached": Words(STANDSTILL, "Weights without a gradient",
        "The gradient of a layer's weights is exactly zero, while the rest of the layer has one."),
    "rate_gone": Words(STANDSTILL, "Learning rate gone",
        "The rate has decayed to nothing before anything was learnt."),
    "flat_validation": Words(STANDSTILL, "Validation does not move",
        "All evaluations give the same, and the training loss stands where it began."),
    "stale_evaluation": Words(STANDSTILL, "Stale evaluation",
        "Evaluations give the same to the last bit while the training loss moves."),
    "posterior_collapse": Words(STANDSTILL, "Posterior collapse",
        "The latent code of a variational autoencoder says nothing any more."),
    "vanishing_gradient": Words(STANDSTILL, "Vanishing gradient",
        "The gradient fades on its way to the first layers and nothing is learnt."),
    "dead_units": Words(STANDSTILL, "Dead units",
        "Units that are always zero, where the loss shows that it matters."),
    "saturated_units": Words(STANDSTILL, "Saturated units",
        "Units at the end of the range of a tanh or sigmoid, where the loss shows it."),
    "update_ratio": Words(STANDSTILL, "Size of updates",
        "Steps too large for the weights they change, or too small to change them."),
    "weight_growth": Words(WEIGHTS, "Weights run away",
        "The norm of all parameters grows ever faster."),
    "weight_leap": Words(WEIGHTS, "Weights leap",
        "The norm of the weights leaps at once, or is many times what it began with."),
    "buffer_drift": Words(WEIGHTS, "Running statistics drift",
        "Buffers, above all those of BatchNorm, run away."),
    "idle_statistics": Words(WEIGHTS, "BatchNorm has seen no batch",
        "Running statistics are still 0 and 1 while the weights are trained: evaluation mode."),
    "logit_growth": Words(WEIGHTS, "Output logits grow",
        "The largest logit grows towards where softmax is one-hot and the loss breaks."),
    "attention_growth": Words(WEIGHTS, "Attention logits grow",
        "The largest attention logit of a layer grows: attention collapses to one token."),
    "q_growth": Words(POLICIES, "Q-values run away",
        "Q-values grow beyond what rewards and discount allow."),
    "reward_scale": Words(POLICIES, "Rewards too large",
        "The critic's errors stay far above its values: no step carries them to their targets."),
    "tiny_rewards": Words(POLICIES, "Rewards too small",
        "The policy stays uniform: rewards this small have no weight beside the entropy bonus."),
    "hollow_loss": Words(POLICIES, "Loss gone, rewards not",
        "The loss is all but gone while rewards never rose: its targets say nothing of them."),
    "target_gap": Words(POLICIES, "Critic against its target",
        "A critic runs away from its target network. Only a mark."),
    "twin_gap": Words(POLICIES, "Twin critics disagree",
        "Two critics of the same states differ by as much as their values. Only a mark."),
    "entropy_collapse": Words(POLICIES, "Entropy collapse",
        "The policy stopped exploring before it earned anything by it."),
    "policy_shift": Words(POLICIES, "Policy moves too far",
        "Updates with a KL far beyond what PPO and its kin allow."),
    "explained_variance": Words(POLICIES, "Value function fails",
        "The value function explains less than none would."),
    "adversary": Words(OTHERS, "GAN: one side has won",
        "A discriminator's loss near zero, or one side's far down while the other's is far up."),
    "replay_health": Words(OTHERS, "Continual learning: forgetting",
        "The loss on replayed memories rises far above the loss on new data."),
    "stall": Words(OTHERS, "Silence",
        "Nothing comes any more, measured against the pace of the run so far."),
}  # fmt: skip

GROUPS = (BROKEN, GRADIENTS, LOSS, STANDSTILL, WEIGHTS, POLICIES, OTHERS)

_TABLE = re.compile(r"\[(\w+)\]")
_LIMIT = re.compile(r"(\w+)\s*=\s*([^#]+?)\s*(?:#\s*(.*))?$")
_MORE = re.compile(r"\s+#\s*(.*)")


@cache
def catalogue() -> list[dict[str, Any]]:
    """Every rule with its words and packaged limits, in the order of the page."""
    classes = {kind.name: kind for kind in RULES}
    found: list[dict[str, Any]] = []
    for name, limits in _packaged().items():
        words = WORDS.get(name) or Words(OTHERS, name.replace("_", " "), _first_line(classes[name]))
        found.append({"name": name, **words._asdict(), "limits": limits})
    order = list(WORDS)
    places = {name: (GROUPS.index(words.group), order.index(name)) for name, words in WORDS.items()}
    return sorted(found, key=lambda one: places.get(one["name"], (len(GROUPS), 0)))


def _packaged() -> dict[str, list[dict[str, str]]]:
    """Limits as the packaged text writes them, with the comment of each."""
    rules: dict[str, list[dict[str, str]]] = {}
    limits: list[dict[str, str]] = []
    for line in packaged_text().splitlines():
        if table := _TABLE.match(line):
            limits = rules.setdefault(table[1], [])
        elif limit := _LIMIT.match(line):
            limits.append({"name": limit[1], "value": limit[2], "source": limit[3] or ""})
        elif limits and (more := _MORE.match(line)):
            limits[-1]["source"] += f" {more[1]}"
    return rules


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]
