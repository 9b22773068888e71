"""What a name means that somebody else's logger gave: its stage and, if known, its kind.

Pure tables and small functions. `integrations.names` uses them while a training runs, the server's
importers for files; the names are those of Lightning, transformers, Stable-Baselines3, torchrl,
CleanRL and common scripts.
"""

from __future__ import annotations

import re

STAGES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "dev": "val",
    "test": "test",
}

KIND_OF = {
    "loss": "loss",
    "total_loss": "loss",
    "grad_norm": "grad_norm",
    "gradient_norm": "grad_norm",
    "total_grad_norm": "grad_norm",
    "grad_2.0_norm_total": "grad_norm",
    "lr": "lr",
    "learning_rate": "lr",
    "loss_scale": "loss_scale",
    "reward": "reward",
    "rewards": "reward",
    "mean_reward": "reward",
    "reward_mean": "reward",
    "ep_reward": "reward",
    "ep_rew_mean": "reward",
    "episode_reward": "reward",
    "episode_return": "reward",
    "episodic_return": "reward",
    "mean_return": "reward",
    "avg_return": "reward",
    "entropy": "entropy",
    "policy_entropy": "entropy",
    "kl": "kl",
    "kl_div": "kl",
    "kl_divergence": "kl",
    "approx_kl": "kl",
    "mean_kl": "kl",
    "explained_variance": "explained_variance",
    "explained_var": "explained_variance",
    "q_mean": "q_mean",
    "q_value": "q_mean",
    "q_values": "q_mean",
}
"""Last part of a logged name → kind. Units agree: nat, and means over a batch or an episode."""

_CRITIC_VALUES = re.compile(r"(qf?\d+|q_?f\d*)_(?:a_)?values?")
_SEPARATORS = re.compile(r"[/|]")


def parts_of(name: str) -> list[str]:
    """`train/loss` as its parts."""
    return [part for part in _SEPARATORS.split(name.strip()) if part]


def take_stage(parts: list[str], stage: str) -> tuple[list[str], str]:
    """`val/loss`, `loss/val`, `val_loss` and `loss_val` without their stage, and the stage."""
    for index, part in enumerate(parts):
        if len(parts) > 1 and part.lower() in STAGES:
            return parts[:index] + parts[index + 1 :], STAGES[part.lower()]
        head, _, rest = part.partition("_")
        if rest and head.lower() in STAGES:
            return [*parts[:index], rest, *parts[index + 1 :]], STAGES[head.lower()]
        rest, _, tail = part.rpartition("_")
        if rest and tail.lower() in STAGES:
            return [*parts[:index], rest, *parts[index + 1 :]], STAGES[tail.lower()]
    return parts, stage


def known_kind(last: str) -> str:
    """Kind, or `scope.kind`, of the last part of a name; empty if it is not known."""
    if last in KIND_OF:
        return KIND_OF[last]
    if found := _CRITIC_VALUES.fullmatch(last):
        return f"{found[1]}.q_mean"
    return ""
