"""Things to try, each with its exact value. Used by the table in `syndromes`."""

from __future__ import annotations

import math

from nanwatch_server.diagnose.case import CLIP_NAMES, LR_NAMES, WINDOW_NAMES, Case
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact, fact_number, number
from nanwatch_server.domain.models import Suggestion

FROM_START = 10
"""Steps: trouble that began within them leaves nothing to go back to."""


def scale_lr(case: Case, factor: float = 0.1) -> Suggestion:
    """Lower the learning rate now."""
    lr = fact_number(case.facts, *LR_NAMES)
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
        text=f"Save a checkpoint now. To go back, prefer one from before step {case.onset}."
        if case.onset > FROM_START
        else "Save a checkpoint now, to look into it: the trouble began with the run, so no "
        "earlier one is better.",
        treats="symptom",
        command="checkpoint",
    )


def keep_what_is_trained(case: Case) -> Suggestion:
    """The weights may be well where only their evaluation is not."""
    return Suggestion(
        text="Save a checkpoint of the weights in training now, and evaluate that: they may be "
        "well, and the best checkpoint by this evaluation is none.",
        treats="symptom",
        command="checkpoint",
    )


def stop(case: Case) -> Suggestion:
    """Stop, with a checkpoint."""
    return Suggestion(
        text=f"Stop the run and go back to a checkpoint from before step {case.onset}."
        if case.onset > FROM_START
        else "Stop the run and begin anew: the trouble began with it.",
        treats="symptom",
        command="stop",
        args={"checkpoint": True},
    )


def stop_choosing(case: Case) -> Suggestion:
    """What is chosen by an evaluation of something else is chosen by chance."""
    return Suggestion(
        text="Stop the run if it ends early or picks its best checkpoint by this evaluation.",
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
    reward = case.reward
    if not reward > 0:
        return Suggestion(
            text="Scale rewards so that the largest comes to about 1.",
            treats="cause",
            copy="reward = reward / largest_reward",
        )
    old = fact_number(case.facts, "reward_scale") or 1.0
    value = 10.0 ** -math.floor(math.log10(reward))
    return Suggestion(
        text=f"Scale rewards by {number(value)} so that the largest, {number(reward)}, "
        f"comes to about {number(float(f'{reward * value:.1g}'))}.",
        treats="cause",
        copy=f"reward_scale: {number(old * value)}",
    )


def fit_targets(case: Case) -> Suggestion:
    """Targets that the reward moves, for a loss that is gone without it."""
    most = f"; the largest reward is {number(case.reward)}" if case.reward > 0 else ""
    return Suggestion(
        text="Look at the targets: they must move with the reward. A value support (v_min, v_max), "
        f"a clamp or a clip of rewards that is too narrow makes them all equal{most}.",
        treats="cause",
        copy="print(targets.min(), targets.median(), targets.max(), rewards.min(), rewards.max())",
    )


def check_states(case: Case) -> Suggestion:
    """The policy has to see what the reward depends on, and to act on it."""
    return Suggestion(
        text="Check that states in the buffer differ from one another and are stored by value, and "
        "that the policy which collects data is the one that is trained.",
        treats="cause",
        copy="print(len(buffer.states.unique(dim=0)), 'different states of', len(buffer.states))",
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


def lower_lr(case: Case, factor: float = 0.1) -> Suggestion:
    """Start again with a lower learning rate."""
    lr = fact_number(case.facts, *LR_NAMES)
    key = fact_key(case, LR_NAMES) or "lr"
    change = f": {number(lr)} → {number(lr * factor)}" if lr else f" to {number(factor)} of it"
    return Suggestion(
        text=f"Lower the peak learning rate{change}.",
        treats="cause",
        copy=f"--{key.replace('_', '-')} {number(lr * factor)}" if lr else "",
    )


def restore_lr(case: Case) -> Suggestion:
    """A schedule that ended at 0, or a flag that set it."""
    lr = fact_number(case.facts, *LR_NAMES)
    to = f" back to {number(lr)}" if lr else ""
    return Suggestion(
        text=f"Set the learning rate{to}: a schedule that ended too early, or one stepped once a "
        "batch instead of once an epoch, leaves 0.",
        treats="cause",
    )


def smaller_beta(case: Case) -> Suggestion:
    """A KL term that weighs less at first."""
    name = next((key for key in ("kl_weight", "beta", "kl_beta") if key in case.facts), "beta")
    return Suggestion(
        text="Weigh the KL term less: sum the reconstruction over its dimensions as the KL is, "
        "warm its weight up from 0 over the first thousand steps, or allow some free bits.",
        treats="cause",
        copy=f"{name}: 0.01",
    )


def clear_later(case: Case) -> Suggestion:
    """The order of the three calls."""
    return Suggestion(
        text="Call `zero_grad()` before `backward()` or after `step()`, never between the two.",
        treats="cause",
        copy="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    )


def evaluate_what_is_trained(case: Case) -> Suggestion:
    """The model of the evaluation is another one, or none is run."""
    return Suggestion(
        text="Evaluate the very model that the optimizer holds: not a copy made before training, "
        "an average that is never updated, a compiled or exported one of old, or a cached result.",
        treats="cause",
        copy="held = {id(p) for g in optimizer.param_groups for p in g['params']}\n"
        "print([n for n, p in evaluated.named_parameters() if id(p) not in held])",
    )


def straight_through(case: Case) -> Suggestion:
    """A way for the gradient past an operation that has none."""
    return Suggestion(
        text="Let the gradient pass the operation that has none: straight through a rounding, or "
        "a relaxation (softmax, Gumbel) instead of a choice.",
        treats="cause",
        copy="rounded = w + (torch.round(w) - w).detach()",
    )


def check_graph(case: Case) -> Suggestion:
    """Loss and optimizer speak of different weights."""
    return Suggestion(
        text="Check that the optimizer holds the parameters of the model that makes the loss, that "
        "they require gradients, and that nothing between them is detached.",
        treats="cause",
        copy="held = {id(p) for g in optimizer.param_groups for p in g['params']}\n"
        "print([n for n, p in model.named_parameters() if id(p) not in held or p.grad is None])",
    )


def residual(case: Case) -> Suggestion:
    """A path for the gradient."""
    return Suggestion(
        text="Add residual connections, so that the gradient has a path that shrinks nothing.",
        treats="cause",
    )


def better_start(case: Case) -> Suggestion:
    """Initial weights that keep the size of a signal."""
    return Suggestion(
        text="Use ReLU or GELU with He initialisation, or Xavier for tanh and sigmoid.",
        treats="cause",
        copy="torch.nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')",
    )


def normalise_layers(case: Case) -> Suggestion:
    """Keep the size of activations."""
    return Suggestion(text="Put LayerNorm or BatchNorm between the layers.", treats="cause")


def normalise_inputs(case: Case) -> Suggestion:
    """Inputs of about unit size."""
    return Suggestion(
        text="Scale the inputs to mean 0 and standard deviation 1.",
        treats="cause",
        copy="x = (x - mean) / std",
    )


def leaky(case: Case) -> Suggestion:
    """Units that can come back."""
    return Suggestion(
        text="Use LeakyReLU or GELU, whose units can come back, and start biases at 0; in "
        "reinforcement learning reset dormant units (ReDo).",
        treats="cause",
    )


def overfit_one_batch(case: Case) -> Suggestion:
    """The quickest test of a training loop."""
    return Suggestion(
        text="Train on one batch alone: if its loss does not fall to 0, labels, loss or graph are "
        "wrong, not the data.",
        treats="cause",
    )


def search_lr(case: Case) -> Suggestion:
    """Too small is as flat as too large."""
    lr = fact_number(case.facts, *LR_NAMES)
    tries = f" ({number(lr * 0.1)} and {number(lr * 10)})" if lr else ""
    return Suggestion(
        text=f"Try ten times less and ten times more learning rate{tries}.", treats="cause"
    )


def entropy_bonus(case: Case) -> Suggestion:
    """Reward exploration."""
    now = fact_number(case.facts, "ent_coef", "entropy_coef", "entropy_bonus")
    value = 0.01 if not now else 2 * now
    was = f" instead of {number(now)}" if now is not None else ""
    return Suggestion(
        text=f"Reward exploration: entropy bonus {number(value)}{was}.",
        treats="cause",
        copy=f"ent_coef: {number(value)}",
    )


def stop_early_on_kl(case: Case) -> Suggestion:
    """PPO's own brake."""
    return Suggestion(
        text="End the epochs of an update once the KL exceeds 0.03, or take fewer of them.",
        treats="cause",
        copy="target_kl: 0.03",
    )


def normalise_returns(case: Case) -> Suggestion:
    """Returns of about unit size."""
    return Suggestion(
        text="Normalise the returns (running mean and standard deviation) before they are fitted.",
        treats="cause",
    )


def z_loss(case: Case) -> Suggestion:
    """Hold the logits."""
    return Suggestion(
        text="Add a z-loss of 1e-4, which holds the logits near 0.",
        treats="cause",
        copy="loss = loss + 1e-4 * logits.logsumexp(-1).square().mean()",
    )


def qk_norm(case: Case) -> Suggestion:
    """Hold the attention logits."""
    return Suggestion(
        text="Normalise queries and keys before their product (qk-norm).", treats="cause"
    )


def freeze_batchnorm(case: Case) -> Suggestion:
    """Statistics of the first task for all."""
    return Suggestion(
        text="Freeze the running statistics of BatchNorm, after the first task at the latest.",
        treats="cause",
        copy="nanwatch.guards.freeze_batchnorm(model)",
    )


def larger_batch(case: Case) -> Suggestion:
    """Statistics of few samples are noise."""
    return Suggestion(
        text="Use larger batches, or GroupNorm, whose statistics do not depend on the batch.",
        treats="cause",
    )


def regularise(case: Case) -> Suggestion:
    """Less learning by heart."""
    return Suggestion(
        text="Keep the weights of the best evaluation (early stopping) and regularise: dropout, "
        "weight decay, augmentation, more data. If only evaluation is bad, compare train and eval "
        "mode on the same batch.",
        treats="cause",
        copy="weight_decay: 0.01",
    )


def weight_decay(case: Case) -> Suggestion:
    """Something that takes away."""
    return Suggestion(
        text="Add weight decay (0.01 with AdamW), and check the sign of penalties on the weights.",
        treats="cause",
        copy="weight_decay: 0.01",
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


def lower_beta2(case: Case) -> Suggestion:
    """A second moment that keeps up."""
    now = fact_number(case.facts, "beta2", "adam_beta2")
    was = f" instead of {number(now)}" if now else ""
    return Suggestion(
        text=f"With Adam: beta2 0.95{was}, so that the second moment keeps up with the gradient.",
        treats="cause",
        copy="betas=(0.9, 0.95)",
    )


def detach_hooks(case: Case) -> Suggestion:
    """Side computations must not be trained through."""
    return Suggestion(
        text="Run what only observes the network (causal graphs, statistics, stored outputs) under "
        "torch.no_grad() and on detached features.",
        treats="cause",
        copy="with torch.no_grad():",
    )


def find_the_block(case: Case) -> Suggestion:
    """Where the process stands."""
    return Suggestion(
        text="Ask the process where it stands: workers of the data loader, a lock, or a collective "
        "that waits for a rank that is gone.",
        treats="cause",
        copy="py-spy dump --pid PID",
    )


def weaker_discriminator(case: Case) -> Suggestion:
    """Give the other side a chance."""
    winner = case.evidence("loss", labels.WINNER)
    if winner is not None:
        return Suggestion(
            text=f"Hold {winner.scope} back: a lower learning rate or fewer updates for it, or "
            "more for the other. First check the labels that each of the two losses uses.",
            treats="cause",
        )
    return Suggestion(
        text="Hold the discriminator back: a lower learning rate for it, spectral normalisation, a "
        "gradient penalty (WGAN-GP), or label smoothing.",
        treats="cause",
    )


def roll_back(case: Case) -> Suggestion:
    """Before it began, with smaller steps."""
    before = case.onset - 100
    return Suggestion(
        text=f"Go back to a checkpoint from before step {before} and go on with half the learning "
        "rate."
        if before > FROM_START
        else "Begin anew with half the learning rate: there is no checkpoint from long before.",
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
