"""Names of columns as their words: `Validation Loss`, `trainLoss`, `avg_train_loss`, `EpRet`.

Pure. `importers.names` asks here when a name as it stands says nothing known.
"""

from __future__ import annotations

import re

from nanwatch.contract.names import STAGES

_CUT = re.compile(r"[\s_/.\-|:()\[\]]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STAGES = STAGES | {"tr": "train", "trn": "train", "va": "val", "te": "test"}
_NEUTRAL = frozenset(
    {"avg", "average", "mean", "epoch", "batch", "running", "total", "overall", "step", "iter"}
    | {"iteration", "current", "per", "cumulative", "combined", "sum", "full"}
)
"""Words beside a loss or a reward that leave it what it is."""
_LAST_FEW = re.compile(r"\d+(ep|eps|episodes)?|last")
"""`Avg_Reward_100`, `mean_100ep_reward`."""
_LOSSES = frozenset({"loss", "losses"})
_REWARDS = frozenset({"reward", "rewards", "return", "returns", "ret", "rew"})
_EPISODES = frozenset({"ep", "episode", "episodic"})
_PARTS = frozenset(
    {"box", "bbox", "cls", "class", "dfl", "obj", "objectness", "seg", "pose", "kobj", "kpt"}
    | {"keypoint", "rpn", "roi", "loc", "mask", "centerness", "iou", "giou", "ciou", "dice"}
    | {"focal", "angle", "hm", "wh", "off", "offset", "reg", "itm", "itc", "mlm", "mim", "nsp"}
    | {"sop", "ctc", "att"}
)
"""Words of the parts of a loss that frameworks write side by side and minimise the sum of."""
OWNER = re.compile(
    r"(policy|actor|pi|critic|value|vf|v|q|qf|q_?\d|qf_?\d|critic_?\d|twin_?q\d?|world_model|dynamics|"
    r"generator|gen|discriminator|disc|[gd]|gan_[gd])"
)
"""Networks with an optimizer of their own, as people call them."""
_VALUES = re.compile(r"(q\d?)_?(?:vals?|values?)")


def stage_words(name: str) -> tuple[list[str], str]:
    """The words of a name in small letters, without those that name a stage; and the stage. What
    is evaluated within a training (`train/val_loss`) is no training loss."""
    found = [word.lower() for word in _CUT.split(name.strip()) if word]
    stages = {_STAGES[word]: None for word in found if word in _STAGES}
    if len(stages) > 1:
        stages.pop("train", None)
    rest = [word for word in found if word not in _STAGES]
    return rest, next(iter(stages), "train")


def read_words(name: str) -> tuple[str, str, str] | None:
    """(kind, scope, stage) of a name by its words; None if they say nothing known."""
    words, stage = stage_words(name)
    words = [word for word in words if word not in _NEUTRAL]
    if not words:
        return None
    if found := _VALUES.fullmatch("_".join(words)):
        return "q_mean", "" if found[1] == "q" else found[1], stage
    if set(words) <= _LOSSES:
        return "loss", "", stage
    rewards = [word for word in words if word not in _EPISODES and not _LAST_FEW.fullmatch(word)]
    if len(rewards) == 1 and rewards[0] in _REWARDS:
        return "reward", "", stage
    if len(words) == 2:
        for owner, what in (words, words[::-1]):
            if OWNER.fullmatch(owner) and (what in _LOSSES or (what == "err" and owner in "dg")):
                return "loss", owner, stage
    return None


def part_of_loss(name: str) -> tuple[str, str]:
    """(what it is part of a loss for, stage) of `train/box_loss` and `loss_rpn_cls`: names of
    detectors, segmenters and of what pretrains with several tasks, which add up to what is
    minimised. Empty for every other name: rivals, regularisers, copies and weights are no parts."""
    words, stage = stage_words(name)
    rest = [word.rstrip("0123456789") or word for word in words if word not in _LOSSES]
    if len(rest) != len(words) - 1 or not rest or not _PARTS.issuperset(rest):
        return "", stage
    return "_".join(word for word in words if word not in _LOSSES), stage
