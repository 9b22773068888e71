"""Things to try in reinforcement learning and in games of two."""

from __future__ import annotations

import math

from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.remedies.settings import fact_key, flag
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact_number, number
from nanwatch_server.domain.models import Suggestion

DISCRIMINATOR_RATES = ("d_lr", "lr_d", "lr_disc", "disc_lr")


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
    value = 10.0 ** -min(300, max(-300, math.floor(math.log10(reward))))
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
        copy="target = r + gamma * (1 - done) * torch.min(target_1(s, a), target_2(s, a))\n"
        "critic = torch.nn.Sequential(torch.nn.Linear(n, 256), torch.nn.LayerNorm(256), "
        "torch.nn.ReLU(), torch.nn.Linear(256, 1))",
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
        copy="mean += 0.01 * (returns.mean() - mean)\nvar += 0.01 * (returns.var() - var)\n"
        "returns = (returns - mean) / (var + 1e-8) ** 0.5",
    )


def weaker_discriminator(case: Case) -> Suggestion:
    """Give the other side a chance."""
    winner = case.evidence("loss", labels.WINNER)
    if winner is not None:
        return Suggestion(
            text=f"Hold {winner.scope} back: a lower learning rate or fewer updates for it, or "
            "more for the other. First check the labels that each of the two losses uses.",
            treats="cause",
            copy="for group in optimizer.param_groups:  # the one of that side\n"
            '    group["lr"] *= 0.25',
        )
    rate = fact_number(case.facts, *DISCRIMINATOR_RATES)
    return Suggestion(
        text="Hold the discriminator back: a lower learning rate for it, spectral normalisation, a "
        "gradient penalty (WGAN-GP), or label smoothing.",
        treats="cause",
        copy=flag(fact_key(case, DISCRIMINATOR_RATES) or "d_lr", rate / 4)
        if rate
        else "for m in list(discriminator.modules()):\n"
        "    if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)):\n"
        "        torch.nn.utils.parametrizations.spectral_norm(m)",
    )
