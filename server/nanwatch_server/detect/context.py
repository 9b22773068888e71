"""What all rules of a run share: facts, limits, the largest reward, and how a finding is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanwatch_server.detect.alarm import Alarm, Event
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.state import Stateful
from nanwatch_server.domain.facts import fact_number, number
from nanwatch_server.domain.models import Evidence, Finding, Severity

TITLE_MAX = 80


class Rewards(Stateful):
    """Largest absolute reward the run has shown, over all scopes."""

    STATE = ("largest",)

    def __init__(self) -> None:
        self.largest = float("nan")

    def read(self, block: Block) -> F64:
        """Largest so far at each record of the block; NaN while none was logged."""
        found = np.full(len(block), self.largest)
        for kind in ("reward_abs_max", "reward"):
            if (values := block.scalars.get(kind)) is not None:
                finite = np.where(np.isfinite(values), np.abs(values), np.nan)
                found = np.fmax(found, np.fmax.accumulate(finite))
        if len(found):
            self.largest = float(found[-1])
        return found


@dataclass(slots=True)
class Context:
    """One per run; rules keep a reference."""

    run_id: str
    facts: dict[str, str]
    limits: dict[str, dict[str, Any]]
    rewards: Rewards = field(default_factory=Rewards)
    reward_limits: F64 = field(default_factory=lambda: np.empty(0))
    """`Rewards.read` of the block at hand."""

    def gamma(self) -> float | None:
        """Discount factor, if the configuration names one that makes sense."""
        gamma = fact_number(self.facts, "gamma", "discount", "discount_factor")
        return gamma if gamma is not None and 0 < gamma < 1 else None

    def learns_values(self) -> bool:
        """True for reinforcement learning, where losses of critics may rise in good health."""
        return self.gamma() is not None


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
    return Finding(
        run_id=context.run_id,
        rule=rule,
        severity=Severity(event.severity),
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
        lacking = [kind for kind in cls.reads if kind not in seen]
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
