"""How long is left: steps to overflow from a doubling time. Called by `syndromes`."""

from __future__ import annotations

import math

from nanwatch_server.diagnose.case import Case, parse
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Finding, Severity

FP32_MAX = 3.4e38
FP16_MAX = 65504.0
SQUARE_MAX = 1.8e19
"""A larger error has no square in fp32."""


def steps_left(level: float, doubling: float, limit: float) -> float:
    """Steps until `level` reaches `limit`; NaN if it makes no sense."""
    if not (level > 0 and doubling > 0 and math.isfinite(level) and math.isfinite(doubling)):
        return math.nan
    return max(0.0, doubling * math.log2(limit / level)) if level < limit else 0.0


def forecast(case: Case) -> str:
    """One sentence, empty where nothing can be said."""
    if case.has("skip_streak", Severity.CRITICAL):
        return "Waiting will not recover it: while every update is skipped nothing can change."
    if case.has("nonfinite"):
        return ""
    newest = {(found.rule, found.scope): found for found in case.findings}
    chances = [_overflow(found, case) for found in newest.values()]
    return min(((at, text) for at, text in chances if text), default=(0.0, ""))[1]


def _overflow(found: Finding, case: Case) -> tuple[float, str]:
    """Step of the overflow one growing series heads for, and the sentence."""
    if found.doubling_steps is None or found.cleared or not found.evidence:
        return math.inf, ""
    gradient = found.rule == "grad_explosion"
    half = gradient and case.half_precision
    limit = FP16_MAX if half else FP32_MAX if gradient else SQUARE_MAX
    left = steps_left(parse(found.evidence[0].value), found.doubling_steps, limit)
    if not math.isfinite(left):
        return math.inf, ""
    what = "overflow" if gradient else "overflow of the squared error"
    return found.step + left, (
        f"{'fp16' if half else 'fp32'} {what} in about {short(left)} steps at this rate "
        f"(doubling every {short(found.doubling_steps)}), near step {int(found.step + left)}."
    )
