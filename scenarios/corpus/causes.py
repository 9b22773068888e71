"""Causes of the sick programs: can they be cured from outside, and what may be said of them.

Plain data; `labels` and the scorecard read it. Names of syndromes are those of the diagnosis
(`nanwatch_server/diagnose/syndromes.py`).
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """One cause."""

    curable: bool
    """By a lower rate, a clip or another dial, or an earlier checkpoint, while the run goes on."""
    syndromes: frozenset[str]
    """Any of these names the trouble rightly."""


def _cause(curable: bool, *syndromes: str) -> Cause:
    return Cause(curable, frozenset(syndromes))


RATE = ("learning-rate-too-high", "exploding-gradient", "divergence", "loss-spike")

CAUSES: dict[str, Cause] = {
    "lr-too-high": _cause(True, *RATE, "dead-units"),
    "lr-too-high-late": _cause(True, *RATE, "dead-units"),
    "divergence-slow": _cause(True, *RATE, "weight-growth"),
    "loss-spike-not-healing": _cause(True, "loss-spike", "divergence", "learning-rate-too-high"),
    "adam-spikes": _cause(True, "loss-spike", "divergence"),
    "init-too-large": _cause(True, *RATE, "logit-growth", "attention-logit-growth"),
    "data-unnormalised": _cause(False, *RATE, "dead-units", "vanishing-gradient", "not-learning"),
    "exploding-rnn": _cause(True, "exploding-gradient"),
    "explosion-hidden-by-clipping": _cause(False, "explosion-hidden-by-clipping"),
    "all-updates-skipped": _cause(False, "all-updates-skipped"),
    "gradients-not-cleared": _cause(False, "gradients-not-cleared"),
    "reward-scale": _cause(True, "reward-scale"),
    "bootstrap-divergence": _cause(True, "bootstrap-divergence"),
    "entropy-collapse": _cause(True, "entropy-collapse", "policy-update-too-large"),
    "replay-corruption": _cause(True, "replay-corruption"),
    "bad-batch": _cause(True, "loss-spike", "nonfinite-loss", "nonfinite-gradient"),
    "log-of-zero": _cause(False, "edge-of-domain", "nonfinite-loss", "nonfinite-gradient"),
    "fp16-overflow": _cause(
        False,
        "half-precision-overflow",
        "loss-scale-collapse",
        "all-updates-skipped",
        "nonfinite-loss",
        "edge-of-domain",  # exp() in float16
    ),
    # Logits that grow reach the end of exp() or log() where these are written by hand.
    "logit-growth": _cause(
        True, "logit-growth", "attention-logit-growth", "weight-growth", "edge-of-domain"
    ),
    "norm-runaway": _cause(True, "weight-growth", "divergence"),
    "vanishing-gradient": _cause(
        False, "vanishing-gradient", "not-learning", "posterior-collapse", "no-gradient"
    ),
    # Units die of large steps: either name is right.
    "dead-relu": _cause(
        False, "dead-units", "vanishing-gradient", "not-learning", "learning-rate-too-high"
    ),
    "frozen-weights": _cause(False, "frozen-weights", "not-learning"),
    "gan-divergence": _cause(True, "gan-divergence", "exploding-gradient", "divergence"),
    "gan-collapse": _cause(True, "gan-collapse", "gan-divergence", "not-learning"),
    "batchnorm-drift": _cause(False, "batchnorm-drift", "divergence", "loss-spike"),
    "sanitised-constants": _cause(False, "sanitised-numbers", "nonfinite-loss", "frozen-weights"),
}
