"""The verdict on a checkpoint: findings in order of weight, what explains them, one sentence. Pure.

Called by the CLI with the facts that a child read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from nanwatch.forensics.checkpoint.facts import BackwardFacts, CheckpointFacts, RecurrentFacts
from nanwatch.forensics.checkpoint.findings import RANK, Advice, Finding, count, number
from nanwatch.forensics.checkpoint.judge_backward import judge_backward
from nanwatch.forensics.checkpoint.judge_state import RISE, judge_state, rise_of
from nanwatch.forensics.checkpoint.judge_tensors import judge_tensors

EXPLAINED = ("nonfinite-weights", "nonfinite-optimizer", "extreme-weights", "rising-gradient",
             "huge-moment", "grown-weights", "skipped-updates", "exploding-gradient")  # fmt: skip
"""Findings that an explosion through time may be behind."""


STEADY = 0.85


class Verdict(msgspec.Struct):
    """What a person reads first."""

    verdict: Literal["healthy", "suspect", "critical"]
    text: str
    findings: list[Finding] = []
    why: list[str] = []
    """What in the file may be behind the findings."""


def judge(facts: CheckpointFacts, backward: BackwardFacts | None = None) -> Verdict:
    """Judge what was read, and what one backward pass gave."""
    findings = [*judge_tensors(facts), *judge_state(facts)]
    if backward is not None:
        findings += judge_backward(backward, facts)
    findings.sort(key=lambda finding: RANK[finding.severity])
    said: set[str] = set()
    for finding in findings:
        # Findings of one trouble share advice: once is enough.
        finding.advice = [
            Advice(a.text, a.treats, a.copy.replace("{path}", facts.path))
            for a in finding.advice
            if a.text not in said
        ]
        said.update(a.text for a in finding.advice)
    worst = findings[0].severity if findings else "notice"
    verdict: Literal["healthy", "suspect", "critical"] = "healthy"
    if worst == "critical":
        verdict = "critical"
    elif worst == "warning":
        verdict = "suspect"
    why = _why(facts) if any(f.rule in EXPLAINED for f in findings) else []
    return Verdict(verdict, _text(facts, findings, verdict), findings, why)


def _text(facts: CheckpointFacts, findings: list[Finding], verdict: str) -> str:
    if verdict != "healthy":
        return findings[0].message
    looked = [t for t in facts.tensors if t.elements]
    if not looked and facts.optimizers:
        return "Nothing wrong in the optimizer's state; there are no weights in it."
    elements = sum(t.elements for t in looked)
    text = f"Nothing wrong in {count(len(looked), 'tensor')} ({elements:,} numbers)"
    for optimizer in facts.optimizers[:3]:
        step = f" at step {number(optimizer.steps_high)}" if optimizer.steps_high else ""
        text += f", {optimizer.kind}{step}"
    skipped = [t for t in facts.tensors if t.skipped and not t.elements]
    if skipped:
        text += f"; {count(len(skipped), 'tensor')} could not be looked into"
    return text + "."


def _why(facts: CheckpointFacts) -> list[str]:
    found = []
    strong = sorted(facts.recurrent, key=gain, reverse=True)
    strong = [r for r in strong if gain(r) >= 1.0]
    if strong:
        first = strong[0]
        grows = number(gain(first))
        found.append(
            f"{first.name}, block {first.block}: the recurrent matrix has spectral radius {grows}, "
            "at least 1, so what goes through it again and again can grow with every step in time "
            f"(gates and saturation hold it back, or do not). {len(strong)} such blocks."
        )
    for optimizer in facts.optimizers:
        steady = rise_of(optimizer)
        if optimizer.kind == "Adam" and STEADY < steady <= RISE and optimizer.steps_high >= 1000:
            found.append(
                f"The gradients of {optimizer.name} have pointed one way for a thousand steps "
                f"(|m|/√v {steady:.2g}, 0.2 is usual): its weights run after something far away, "
                "as critics do whose rewards are not scaled."
            )
    return found


def gain(block: RecurrentFacts) -> float:
    """Spectral radius, or the norm where the radius was not asked for."""
    return block.radius if block.radius >= 0 else block.spectral_norm
