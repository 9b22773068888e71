"""The list of rules, one line each, and their limits from the packaged `rules.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from nanwatch_server.detect.context import Rule
from nanwatch_server.detect.rules.above_chance import AboveChance
from nanwatch_server.detect.rules.adam_rms import AdamRms
from nanwatch_server.detect.rules.adversary import Adversary
from nanwatch_server.detect.rules.clip_saturation import ClipSaturation
from nanwatch_server.detect.rules.coin_toss import CoinToss
from nanwatch_server.detect.rules.constant_loss import ConstantLoss
from nanwatch_server.detect.rules.dead_units import DeadUnits, SaturatedUnits
from nanwatch_server.detect.rules.entropy_collapse import EntropyCollapse
from nanwatch_server.detect.rules.explained_variance import ExplainedVariance
from nanwatch_server.detect.rules.flat_validation import FlatValidation
from nanwatch_server.detect.rules.grad_explosion import GradExplosion
from nanwatch_server.detect.rules.grad_level import GradLevel
from nanwatch_server.detect.rules.grad_spike import GradSpike
from nanwatch_server.detect.rules.half_loss import HalfLoss
from nanwatch_server.detect.rules.hollow_loss import HollowLoss
from nanwatch_server.detect.rules.idle_statistics import IdleStatistics
from nanwatch_server.detect.rules.idle_weights import IdleWeights
from nanwatch_server.detect.rules.joint_rise import JointRise
from nanwatch_server.detect.rules.kept_gradients import KeptGradients
from nanwatch_server.detect.rules.logit_growth import AttentionGrowth, LogitGrowth
from nanwatch_server.detect.rules.loss_divergence import LossDivergence
from nanwatch_server.detect.rules.loss_explosion import LossExplosion, LossGrowth
from nanwatch_server.detect.rules.loss_means import LossMeans
from nanwatch_server.detect.rules.loss_scale import LossScale
from nanwatch_server.detect.rules.loss_spike import LossSpike
from nanwatch_server.detect.rules.masked_nan import MaskedNaN
from nanwatch_server.detect.rules.near_edge import NearEdge
from nanwatch_server.detect.rules.nonfinite import NonFinite
from nanwatch_server.detect.rules.oscillation import Oscillation
from nanwatch_server.detect.rules.plateau import Plateau
from nanwatch_server.detect.rules.policy_shift import PolicyShift
from nanwatch_server.detect.rules.posterior_collapse import PosteriorCollapse
from nanwatch_server.detect.rules.q_growth import QGrowth
from nanwatch_server.detect.rules.rate_gone import RateGone
from nanwatch_server.detect.rules.repaired import Repaired
from nanwatch_server.detect.rules.replay_health import ReplayHealth
from nanwatch_server.detect.rules.reward_scale import RewardScale, TinyRewards
from nanwatch_server.detect.rules.skip_streak import SkipStreak
from nanwatch_server.detect.rules.stale_evaluation import StaleEvaluation
from nanwatch_server.detect.rules.stand_in import StandIn
from nanwatch_server.detect.rules.surge import Surge
from nanwatch_server.detect.rules.target_gap import TargetGap
from nanwatch_server.detect.rules.task_shock import TaskShock
from nanwatch_server.detect.rules.twin_gap import TwinGap
from nanwatch_server.detect.rules.undone import Undone
from nanwatch_server.detect.rules.unreached import Unreached
from nanwatch_server.detect.rules.update_ratio import UpdateRatio
from nanwatch_server.detect.rules.validation_loss import ValidationLoss
from nanwatch_server.detect.rules.vanishing_gradient import VanishingGradient
from nanwatch_server.detect.rules.weight_growth import BufferDrift, WeightGrowth
from nanwatch_server.detect.rules.weight_leap import WeightLeap

RULES: tuple[type[Rule], ...] = (
    NonFinite,
    SkipStreak,
    GradExplosion,
    GradLevel,
    GradSpike,
    KeptGradients,
    ClipSaturation,
    QGrowth,
    RewardScale,
    TinyRewards,
    HollowLoss,
    TargetGap,
    TwinGap,
    Surge,
    ValidationLoss,
    FlatValidation,
    StaleEvaluation,
    LossExplosion,
    LossGrowth,
    LossSpike,
    LossDivergence,
    LossMeans,
    TaskShock,
    JointRise,
    Plateau,
    CoinToss,
    AboveChance,
    Oscillation,
    ConstantLoss,
    StandIn,
    MaskedNaN,
    Repaired,
    IdleWeights,
    RateGone,
    Undone,
    Unreached,
    PosteriorCollapse,
    VanishingGradient,
    DeadUnits,
    SaturatedUnits,
    UpdateRatio,
    LogitGrowth,
    AttentionGrowth,
    WeightGrowth,
    WeightLeap,
    BufferDrift,
    IdleStatistics,
    LossScale,
    HalfLoss,
    NearEdge,
    AdamRms,
    EntropyCollapse,
    PolicyShift,
    ExplainedVariance,
    ReplayHealth,
    Adversary,
)

STAGES = frozenset(kind.stage for kind in RULES)
"""Stages that a rule reads."""

ENABLED = "enabled"
"""Limit that every rule has: `false` switches it off."""


def packaged_text() -> str:
    """The packaged `rules.toml`, with its comments."""
    return resources.files("nanwatch_server.detect").joinpath("rules.toml").read_text("utf-8")


@cache
def _packaged() -> dict[str, dict[str, Any]]:
    return tomllib.loads(packaged_text())


def limits(changed: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Limits per rule, with `changed` on top. A rule or key we do not have is an error."""
    merged = {rule: {ENABLED: True, **values} for rule, values in _packaged().items()}
    for rule, values in (changed or {}).items():
        if rule not in merged:
            raise ValueError(f"no rule is called {rule!r}; known: {', '.join(merged)}")
        for key, value in values.items():
            if key not in merged[rule]:
                raise ValueError(
                    f"rule {rule} has no limit {key!r}; known: {', '.join(merged[rule])}"
                )
            merged[rule][key] = value
    return merged
