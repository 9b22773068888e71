"""What all rules of a run share: facts, limits, the largest reward, and how a finding is made."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nanwatch_server.detect.alarm import Alarm, Event
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.progress import Progress
from nanwatch_server.detect.rates import Rates
from nanwatch_server.detect.rewards import Rewards
from nanwatch_server.detect.running import RunningStatistics
from nanwatch_server.detect.state import Stateful
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact, fact_number, number
from nanwatch_server.domain.models import Evidence, Finding, Severity

TITLE_MAX = 80
EARNS_TICKS = 3
"""Medians of 8 rewards before anything can be said of them."""
PAYS_TICKS = 8
"""Medians of 8 rewards before it can be told whether they rise."""
REWARDED = frozenset({"reward", "reward_abs_max", "q_mean", "q_max", "explained_variance"})
"""Kinds that only reinforcement learning has."""
REWARDED_FACTS = ("env", "env_id", "env_name", "tau", "polyak", "reward_scale", "gae_lambda",
                  "n_envs", "num_envs", "ent_coef", "clip_range", "learning_starts")  # fmt: skip
CLASSES = ("classes", "num_classes", "n_classes")
"""Facts that tell of a classifier."""
VOCABULARIES = ("vocab", "vocab_size", "n_vocab", "vocabulary", "words", "tokens", "n_tokens",
                "num_tokens")  # fmt: skip
NEAR_GUESSING = 0.15
"""An untrained model's loss lies so near that of guessing."""
_SCHEDULE = re.compile(r"sched|step_size|milestones|lr_decay|lr_gamma")
UNKNOWN = Progress()
"""Of scopes without a loss; never written to."""


PLANNED = ("max_steps", "total_steps", "num_training_steps", "num_train_steps", "train_steps",
           "training_steps", "num_steps", "steps", "max_iters", "iterations")  # fmt: skip
"""Names of the length of a training, in updates."""


@dataclass(slots=True)
class Context:
    """One per run; rules keep a reference."""

    run_id: str
    facts: dict[str, str]
    limits: dict[str, dict[str, Any]]
    rewards: Rewards = field(default_factory=Rewards)
    reward_limits: F64 = field(default_factory=lambda: np.empty(0))
    """`Rewards.read` of the block at hand."""
    progress: defaultdict[str, Progress] = field(default_factory=lambda: defaultdict(Progress))
    """How the loss of each scope went."""
    losses_since: dict[str, int] = field(default_factory=dict)
    """First step at which each scope had a loss, as far as blocks have come."""
    returns: Progress = field(default_factory=Progress)
    """How the rewards went, over all scopes."""
    values: defaultdict[str, Progress] = field(default_factory=lambda: defaultdict(Progress))
    """How the mean Q-value of each scope went."""
    rates: defaultdict[str, Rates] = field(default_factory=lambda: defaultdict(Rates))
    buffers: defaultdict[str, RunningStatistics] = field(
        default_factory=lambda: defaultdict(RunningStatistics)
    )
    kinds: set[str] = field(default_factory=set)
    """Kinds the run has sent."""
    mark: str = ""
    """The mark for which rules restart."""
    _known: dict[str, Any] = field(default_factory=dict)
    """What was read from the facts, which are texts."""

    def progress_of(self, scope: str) -> Progress:
        """The scope's own loss, or the only one there is."""
        if (own := self.progress.get(scope)) is not None:
            return own
        return next(iter(self.progress.values())) if len(self.progress) == 1 else UNKNOWN

    def competes(self, scope: str) -> bool:
        """Several losses or critics: they may rise while all is well. Optimizers that share one
        loss (a table's own, Muon beside Adam) do not compete."""
        losing = self.progress.keys() | self.losses_since.keys()
        rewarded = "reward" in self.kinds or (scope and self.learns_policy())
        if self.learns_values() or rewarded or len(losing) > 1:
            return True
        if "scopes" not in self._known:
            scopes = {name.strip() for name in self.facts.get("scopes", "").split(",")}
            # `model` and `model2` are optimizers of one module
            self._known["scopes"] = {name.rstrip("0123456789") or name for name in scopes - {""}}
        known: set[str] = self._known["scopes"]
        return len(known | {name.rstrip("0123456789") or name for name in losing - {""}}) > 1

    def alone(self, scope: str, step: int) -> bool:
        """True if no other scope has shown a loss by this step: another fit may follow."""
        others = [known for name, known in self.progress.items() if name != scope]
        begun = any(since <= step for name, since in self.losses_since.items() if name != scope)
        known = any(one.upto(step, 1).size for one in others)
        return not self.learns_values() and not begun and not known

    def learn(self, facts: Mapping[str, str]) -> None:
        """More facts, or others."""
        self.facts.update(facts)
        self._known.clear()

    def sends(self, kinds: Iterable[str]) -> None:
        """Kinds that the run sends."""
        before = len(self.kinds)
        self.kinds.update(kinds)
        if len(self.kinds) != before:
            self._known.clear()

    def planned(self) -> float:
        """Attempts that the configuration says the run will make; infinite if it does not."""
        if "planned" not in self._known:
            steps = fact_number(self.facts, *PLANNED)
            self._known["planned"] = steps if steps is not None and steps > 0 else math.inf
        return self._known["planned"]

    def guessing(self) -> float:
        """Cross-entropy of guessing among the classes that the configuration names; else NaN."""
        if "guessing" not in self._known:
            classes = fact_number(self.facts, *CLASSES)
            chance = math.log(classes) if classes is not None and classes >= 2 else math.nan
            self._known["guessing"] = chance
        return self._known["guessing"]

    def guessed_otherwise(self, first: float) -> bool:
        """True if a loss that began at `first` began with guessing among the words that the
        configuration names beside the classes, as in pretraining."""
        words = fact_number(self.facts, *VOCABULARIES)
        return words is not None and words > 1 and abs(first / math.log(words) - 1) <= NEAR_GUESSING

    def gamma(self) -> float | None:
        """Discount factor, if the configuration names one that makes sense."""
        if "gamma" not in self._known:
            self._known["gamma"] = self._discount()
        return self._known["gamma"]

    def _discount(self) -> float | None:
        """The discount factor as the facts have it.

        Schedulers have a `gamma` too: it counts only beside signs of reinforcement learning, or
        where nothing speaks of a schedule and it is as large as discounts are.
        """
        gamma = fact_number(self.facts, "discount", "discount_factor")
        if gamma is None:
            gamma = fact_number(self.facts, "gamma")
            schedule = any(_SCHEDULE.search(key.lower()) for key in self.facts)
            likely = gamma is not None and gamma >= 0.9 and not schedule
            likely = likely and fact(self.facts, *CLASSES) is None
            if not (likely or self.kinds & REWARDED or fact(self.facts, *REWARDED_FACTS)):
                return None
        return gamma if gamma is not None and 0 < gamma < 1 else None

    def undiscounted(self) -> bool:
        """True if the configuration asks for a discount factor of 1."""
        return fact_number(self.facts, "gamma", "discount", "discount_factor") == 1.0

    def learns_values(self) -> bool:
        """True for reinforcement learning, where losses of critics may rise in good health."""
        return self.gamma() is not None

    def learns_policy(self) -> bool:
        """True where a policy is learnt, so that a `kl` is that of its updates."""
        return self.learns_values() or bool(self.kinds & {"entropy", "reward"})

    def earned(self, step: int) -> float:
        """Median of the newest rewards up to `step`; NaN where none were logged."""
        values = self.returns.upto(step, 4)
        return float(np.median(values)) if values.size else math.nan

    def pays(self, step: int) -> bool | None:
        """True if the rewards have risen and stand in the upper half of what they gained; None
        while too few were logged to tell."""
        gained, kept = self._gains(step)
        return None if math.isnan(gained) else gained > 0 and kept > 0.5

    def earns(self, step: int) -> bool:
        """True if the agent gets better, as far as can be told: `pays`, or after too few rewards
        for that, twice what it earned at first (half of what it lost)."""
        pays = self.pays(step)
        if pays is not None:
            return pays
        values = self.returns.upto(step, PAYS_TICKS)
        if len(values) < EARNS_TICKS:
            return False
        share = 1.0 if values[0] > 0 else 0.5
        return bool(values[-2:].min() - values[0] >= share * abs(values[0]) > 0)

    def sign(self, step: int) -> int:
        """-1 or 1 if all medians of rewards up to `step` were below or above 0; else 0, also while
        there are too few."""
        values = self.returns.upto(step, self.returns.medians.capacity)
        if len(values) < PAYS_TICKS:
            return 0
        return int(values.min() > 0) - int(values.max() < 0)

    def never_paid(self, step: int) -> bool:
        """True if rewards were logged and have not risen, as far as they are kept."""
        gained, _ = self._gains(step)
        return gained == 0.0

    def fell(self, step: int) -> bool:
        """True if the rewards had risen and half of that is gone again."""
        gained, kept = self._gains(step)
        return gained > 0 and kept < 0.5

    def _gains(self, step: int) -> tuple[float, float]:
        """What the rewards gained at best, 0 within a tenth, and the share they stand at now; NaN
        while too few were logged."""
        values = self.returns.upto(step, self.returns.medians.capacity)
        if len(values) < PAYS_TICKS:
            return math.nan, math.nan
        first, now = float(np.median(values[:4])), float(np.median(values[-4:]))
        best = float(np.median(sliding_window_view(values, 4), axis=1).max())
        gained = best - first
        if not gained > 0.1 * max(abs(first), abs(best)):
            return 0.0, math.nan
        return gained, (now - first) / gained


@dataclass(slots=True)
class Said:
    """What a rule says at one event."""

    title: str
    message: str
    evidence: tuple[Evidence, ...]
    kind: str
    layer: str = ""
    doubling_steps: float | None = None


def finding(
    context: Context, rule: str, block: Block, event: Event, onset: int, said: Said
) -> Finding:
    """The finding of one event. Rewards seen by then go with it: they name the cause."""
    evidence = said.evidence
    reward = context.reward_limits[event.at] if len(context.reward_limits) else float("nan")
    if np.isfinite(reward) and event.severity > Severity.NOTICE and event.what != "clear":
        evidence += (
            Evidence(
                label="Largest |reward|",
                value=number(float(reward)),
                limit=number(context.limits["q_growth"]["reward_large"]),
                kind="reward",
                scope=block.scope,
            ),
        )
    rates = context.rates[block.scope]
    rise = rates.rise(block, event.at)
    if rise is not None and event.severity > Severity.NOTICE and event.what != "clear":
        low, now, since = rise
        evidence += (
            Evidence(
                label=labels.RATE_ROSE,
                value=f"{number(low)} → {number(now)}",
                limit=f"since step {since}",
                kind="lr",
                scope=block.scope,
            ),
        )
    severity = Severity(event.severity)
    if rule != "nonfinite" and rates.tests(block, event.at):
        severity = min(severity, Severity.NOTICE)  # to diverge is what the test is for
    return Finding(
        run_id=context.run_id,
        rule=rule,
        severity=severity,
        step=int(block.steps[event.at]),
        onset_step=onset if onset >= 0 else int(block.steps[event.at]),
        time=float(block.times[event.at]),
        title=said.title[:TITLE_MAX],
        message=said.message,
        scope=block.scope,
        kind=said.kind,
        layer=said.layer,
        evidence=evidence,
        doubling_steps=said.doubling_steps,
        cleared=event.what == "clear",
    )


def cleared(what: str, kind: str, alarm: Alarm) -> Said:
    """The all-clear of a rule."""
    return Said(
        title=what,
        message=f"{what}. It had been firing since step {alarm.onset}.",
        evidence=(),
        kind=kind,
    )


class Rule(Stateful):
    """Base of all rules: one object per rule and scope."""

    name = ""
    reads: tuple[str, ...] = ()
    """Kinds without which the rule cannot run."""
    any_of: tuple[str, ...] = ()
    """Kinds of which one is enough."""
    stage: str = "train"
    """Blocks of which stage it reads."""
    needs: int = 1
    """Records before it can say anything."""

    def __init__(self, context: Context, scope: str) -> None:
        self.context = context
        self.scope = scope
        self.limits = context.limits[self.name]

    @classmethod
    def wants(cls, block: Block) -> bool:
        """True if the block holds what the rule reads."""
        here = block.scalars.keys() | block.layers.keys()
        return all(kind in here for kind in cls.reads) and (
            not cls.any_of or any(kind in here for kind in cls.any_of)
        )

    @classmethod
    def missing(cls, seen: set[str]) -> str:
        """Why the rule could not run, given all kinds a scope has sent; empty if it could."""
        prefix = "" if cls.stage == "train" else f"{cls.stage} "
        lacking = [name for kind in cls.reads if (name := prefix + kind) not in seen]
        if lacking:
            return f"no {', '.join(lacking)} sent"
        if cls.any_of and not any(kind in seen for kind in cls.any_of):
            return f"none of {', '.join(cls.any_of)} sent"
        return ""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        raise NotImplementedError

    def restart(self) -> None:
        """Windows begin anew: another fit, a new task, a resume."""
