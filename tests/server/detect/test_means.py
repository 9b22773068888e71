"""Logs of few records, each a mean over many steps: what a handful of them shows."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Array, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.detect.rules.coin_toss import LN_CLASSES
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.facts import EPOCHS
from nanwatch_server.domain.models import Finding, Severity

N, EVERY = 60, 25
FALLS = 2.0 * np.exp(-np.arange(N) / 8) + 0.2


def rough(values: Array, spread: float = 0.05) -> Array:
    return values * noise(np.random.default_rng(1), len(values), spread)


def told(
    scalars: dict[str, Array],
    every: int = EVERY,
    size: int = N,
    facts: dict[str, str] | None = None,
) -> list[Finding]:
    """What is said of a log by a server that restarts after every batch of `size` records."""
    facts = facts or {}
    detector, found = RunDetector(RUN, facts), []
    for start in range(0, N, size):
        part = slice(start, start + size)
        steps = (np.arange(N) * every)[part]
        block = Block("", "train", steps, steps * 0.1, {k: v[part] for k, v in scalars.items()})
        found += detector.update(block)
        detector = RunDetector.restore(RUN, facts, detector.state())
    return [one for one in found if one.rule in ("loss_means", "coin_toss") and not one.cleared]


def jumped(level: float) -> Array:
    """A loss that falls and stands at another level from record 36 on."""
    return rough(np.where(np.arange(N) < 36, FALLS, level))


WARM = np.minimum(np.arange(N) / 30, 1.0) * 1e-4
SICK = {
    "diverged": {"loss": jumped(4.0)},
    "lost": {"loss": jumped(1.9)},
    "thrown": {"loss": rough(0.1 + 0.7 * np.exp(-np.arange(N) * 1.0) + 4e3 * WARM), "lr": WARM},
    "endless": {"loss": 0.5 - 2.0 ** (np.arange(N) / 4)},
}


@pytest.mark.parametrize("name", SICK)
def test_what_is_wrong_is_told_within_a_few_records(name: str) -> None:
    found = told(SICK[name])
    assert found and found[0].rule == "loss_means" and found[0].severity >= Severity.WARNING
    assert found[0].step <= (36 + 16) * EVERY
    for size in (1, 7, 16):
        assert told(SICK[name], size=size) == found, f"in batches of {size}"
    assert not told(SICK[name], every=1), "every step: others look at those"
    assert told(SICK[name], every=1, facts={EPOCHS: "true"}), "epochs"


def test_the_cause_is_named() -> None:
    (thrown, *_), (endless, *_) = told(SICK["thrown"]), told(SICK["endless"])
    assert diagnose([thrown], {}).syndrome == "learning-rate-too-high"
    assert diagnose([endless], {}).syndrome == "weight-growth"


@pytest.mark.parametrize(
    "loss",
    [
        rough(FALLS, 0.3),
        rough(np.full(N, 2.2)),
        rough(np.where(np.arange(N) % 12 < 2, 3.0, 1.0) * FALLS),  # two bad records now and then
        jumped(0.45),  # a harder task: most of what was learnt is still there
        -np.linspace(0, 90, N),  # a log-density in many dimensions
        -4e3 * (1 - np.exp(-np.arange(N) / 8)),
    ],
)
def test_healthy_logs_are_left_alone(loss: Array) -> None:
    assert not told({"loss": loss})


def test_restarts_of_a_schedule_are_no_rate_too_high() -> None:
    phase = np.arange(N) % 20 / 20
    rate = 0.5e-3 * (1 + np.cos(np.pi * phase))
    loss = rough(0.2 + 400 * rate)
    assert not told({"loss": loss, "lr": rate})


def test_losses_beside_rewards_are_notices() -> None:
    (found, *_) = told({"loss": jumped(4.0), "reward": rough(np.linspace(1, 9, N))})
    assert found.severity == Severity.NOTICE


@pytest.mark.parametrize("classes", LN_CLASSES)
def test_the_cost_of_guessing(classes: int) -> None:
    loss = rough(np.full(N, np.log(classes)), 0.001)
    found = told({"loss": loss})
    assert [one.rule for one in found] == ["coin_toss"] and f"ln {classes}" in found[0].title
    assert told({"loss": loss}, size=1) == found
    assert not told({"loss": loss}, every=1)
    assert not told({"loss": loss * 1.02}) and not told({"loss": loss, "reward": loss})
    came = np.where(np.arange(N) < 20, loss * np.linspace(3, 1, N), loss)
    assert not told({"loss": came}), "it came down to that by learning"
    assert not told({"loss": loss * np.linspace(1, 0.98, N)}), "it falls"
    assert not told({"loss": loss}, facts={"num_classes": "7"}), "other classes"
    leaves = np.where(np.arange(N) < 20, loss, 0.9 * loss)
    assert not told({"loss": leaves}), "a warm-up"
