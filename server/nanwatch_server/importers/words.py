"""Names of columns as their words: `Validation Loss`, `trainLoss`, `avg_train_loss`, `EpRet`.

Pure. `importers.names` asks here when a name as it stands says nothing known.
"""

from __future__ import annotations

import re

from nanwatch.contract.names import STAGES

_CUT = re.compile(r"[\s_/.\-|:]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STAGES = STAGES | {"tr": "train", "trn": "train", "va": "val", "te": "test"}
_NEUTRAL = frozenset(
    {"avg", "average", "mean", "epoch", "batch", "running", "total", "overall", "step", "iter"}
    | {"iteration", "current", "per", "cumulative"}
)
"""Words beside a loss or a reward that leave it what it is."""
_LAST_FEW = re.compile(r"\d+(ep|eps|episodes)?|last")
"""`Avg_Reward_100`, `mean_100ep_reward`."""
_LOSSES = frozenset({"loss", "losses"})
_REWARDS = frozenset({"reward", "rewards", "return", "returns", "ret", "rew"})
_EPISODES = frozenset({"ep", "episode", "episodic"})
_LOSS_OF = {
    "d": "d", "g": "g", "disc": "disc", "gen": "gen", "discriminator": "discriminator",
    "generator": "generator", "critic": "critic", "actor": "actor", "policy": "policy",
    "pi": "pi", "value": "value", "vf": "vf", "v": "v", "q": "q", "qf": "qf",
    "q1": "q1", "q2": "q2",
}  # fmt: skip
_WHOLE = {"gradnorm": "grad_norm", "learningrate": "lr"}
_VALUES = re.compile(r"(q\d?)_?(?:vals?|values?)")


def stage_words(name: str) -> tuple[list[str], str]:
    """The words of a name in small letters, without those that name a stage; and the stage."""
    found = [word.lower() for word in _CUT.split(name.strip()) if word]
    stages = [_STAGES[word] for word in found if word in _STAGES]
    rest = [word for word in found if word not in _STAGES]
    return rest, stages[0] if stages else "train"


def read_words(name: str) -> tuple[str, str, str] | None:
    """(kind, scope, stage) of a name by its words; None if they say nothing known."""
    words, stage = stage_words(name)
    if not words:
        return None
    plain = "_".join(words)
    if kind := _WHOLE.get(plain):
        return kind, "", stage
    if found := _VALUES.fullmatch(plain):
        return "q_mean", "" if found[1] == "q" else found[1], stage
    words = [word for word in words if word not in _NEUTRAL]
    if not words:
        return None
    if set(words) <= _LOSSES:
        return "loss", "", stage
    rewards = [word for word in words if word not in _EPISODES and not _LAST_FEW.fullmatch(word)]
    if len(rewards) == 1 and rewards[0] in _REWARDS:
        return "reward", "", stage
    if len(words) == 2:
        for owner, what in (words, words[::-1]):
            if owner in _LOSS_OF and (what in _LOSSES or (what == "err" and owner in "dg")):
                return "loss", _LOSS_OF[owner], stage
    return None
