"""The rule on evaluations: far worse than the best and than an untrained model, and why."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Array, decay, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain import labels
from nanwatch_server.domain.models import Finding, Severity

N, EVERY = 1000, 50
T = np.arange(N)
SPOILT = [0.9, 0.6, 0.4, 0.3, 0.3, 0.5, 0.9, 1.4, 1.8, 2.2, 2.4, 2.6, 3.0, 3.3, 3.6, 3.8, 4.0, 4.1]


def trained(
    evaluations: list[float],
    variances: Array | None = None,
    restart: bool = False,
    least: Severity = Severity.WARNING,
) -> list[Finding]:
    """Findings of a training that is well and evaluated every 50 attempts."""
    detector = RunDetector(RUN, {})
    loss = decay(T) * noise(np.random.default_rng(0), N, 0.05)
    found: list[Finding] = []
    for at, value in enumerate(evaluations):
        part = slice(at * EVERY, (at + 1) * EVERY)
        steps = T[part] + 1
        layers = {}
        if variances is not None:
            row = np.full((1, EVERY), np.nan)
            row[0, -1] = variances[at]
            layers = {"buffer_abs_max_layer": (("norm.running_var",), row)}
        found += detector.update(
            Block("", "train", steps, steps * 0.1, {"loss": loss[part]}, layers)
        )
        step = steps[-1:]
        held_out = Block("", "val", step, step * 0.1, {"loss": np.array([value])})
        found += detector.update(held_out)
        if restart:
            state = detector.state()
            detector = RunDetector.restore(RUN, {}, state)
    own = [f for f in found if f.rule == "validation_loss" and not f.cleared]
    return [f for f in own if f.severity >= least]


@pytest.mark.parametrize("restart", [False, True])
def test_evaluations_worse_than_an_untrained_model_are_told(restart: bool) -> None:
    found = trained(SPOILT, restart=restart)
    assert len(found) == 1 and found[0].severity == Severity.WARNING
    # the third evaluation that is three times the best and no better than the untrained model
    assert found[0].step == 550 and found[0].onset_step == 250


def test_statistics_that_moved_are_named_also_when_they_are_seen_later() -> None:
    # what lies before the best evaluation is how they found their level
    variances = np.array([9.0, 1.0] + [0.1] * 9 + [0.4, 3.0] + [9.0] * 5)
    first, second = trained(SPOILT, variances)
    assert not [e for e in first.evidence if e.label == labels.STATISTICS_MOVED]
    (moved,) = [e for e in second.evidence if e.label == labels.STATISTICS_MOVED]
    assert second.step == 650 and moved.value == "30x" and moved.layer == "norm.running_var"


def test_an_evaluation_in_another_unit_is_compared_with_its_own_first() -> None:
    thousandth = [value / 1000 for value in SPOILT]  # of what the training loss is measured in
    (found, *_) = trained(thousandth)
    assert found.step == 750 and "above its best" in found.title
    assert trained(thousandth[:12]) == [], "not yet three times the first"


NEVER_GOOD = [30.0, 25.0, 26.0, 24.0, 28.0, 35.0, 29.0, 31.0]


def test_evaluations_that_were_never_good_are_told_beside_a_training_that_is() -> None:
    found = trained(NEVER_GOOD)
    (said,) = found
    assert said.step <= 300 and "x the training loss" in said.title
    assert labels.STATISTICS_UNFIT not in [e.label for e in said.evidence]
    (said, *_) = trained(NEVER_GOOD, np.ones(8))
    assert labels.STATISTICS_UNFIT in [e.label for e in said.evidence]


@pytest.mark.parametrize(
    "evaluations",
    [
        [0.9, 0.6, 0.4, 0.3, 0.3, 0.35, 0.3, 0.35, 0.3, 0.35],  # as good as it gets
        [0.02, 0.004, 0.001, 0.009, 0.02, 0.03, 0.02, 0.01, 0.02],  # at the foot of the loss
        [0.9, 0.5, 0.3, 2.0, 0.3, 2.0, 0.3, 0.3, 2.0],  # single bad evaluations
    ],
)
def test_ordinary_evaluations_are_left_in_peace(evaluations: list[float]) -> None:
    assert trained(evaluations, least=Severity.NOTICE) == []


@pytest.mark.parametrize("restart", [False, True])
def test_overfitting_is_worth_knowing_as_it_begins(restart: bool) -> None:
    evaluations = [0.9, 0.6, 0.4, 0.3, 0.3, 0.35, 0.4, 0.42, 0.45, 0.5]
    (found,) = trained(evaluations, restart=restart, least=Severity.NOTICE)
    assert found.severity == Severity.NOTICE and found.step == 400 and found.onset_step == 250
    assert found.title == "Validation loss rises from 0.3 to 0.42 while the training loss falls"


def test_coverage_tells_of_evaluations() -> None:
    detector = RunDetector(RUN, {})
    steps = T[:10]
    detector.update(Block("", "train", steps, steps * 1.0, {"loss": np.ones(10)}))

    def entry() -> dict[str, object]:
        return {one["rule"]: one for one in detector.coverage()}["validation_loss"]

    assert not entry()["ran"] and entry()["why"] == "no val loss sent"
    detector.update(Block("", "val", steps[-1:], steps[-1:] * 1.0, {"loss": np.ones(1)}))
    assert entry()["ran"] and entry()["records"] == 1


def test_many_evaluations_at_once_need_no_block_of_attempts_as_long() -> None:
    detector = RunDetector(RUN, {})
    steps = np.arange(1, 65)
    loss = decay(steps) * noise(np.random.default_rng(1), 64, 0.05)
    detector.update(Block("", "train", steps, steps * 0.1, {"loss": loss}))
    detector.update(Block("", "train", steps[-1:] + 1, steps[-1:] * 0.2, {"loss": loss[-1:]}))
    later = np.arange(100, 100 + len(SPOILT))
    found = detector.update(Block("", "val", later, later * 0.1, {"loss": np.array(SPOILT)}))
    assert [f.rule for f in found] == ["validation_loss"]


def test_another_fit_has_other_statistics() -> None:
    detector = RunDetector(RUN, {})
    for fold, variances in enumerate(([1.0, 0.01], [1.0, 1.1])):
        row = np.array([variances])
        steps = np.array([1, 2]) + 10 * fold
        layers = {"buffer_abs_max_layer": (("norm.running_var",), row)}
        detector.update(Block("", "train", steps, steps * 0.1, {"loss": np.ones(2)}, layers))
        if not fold:
            detector.mark("fit", 3, {})
    assert detector.context.buffers[""].drift()[0] == pytest.approx(1.1)


def test_training_on_from_a_good_model_is_not_compared_with_its_own_small_start() -> None:
    """Quantisation-aware fine-tuning: the second fit begins at 0.004 of what the run began with."""
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    for fit, level in enumerate((1.0, 0.002)):
        if fit:
            detector.mark("fit", N, {})
        loss = level * np.exp(-T / 150) * noise(np.random.default_rng(fit), N, 0.05)
        for at in range(N // EVERY):
            part = slice(at * EVERY, (at + 1) * EVERY)
            steps = fit * N + T[part] + 1
            found += detector.update(Block("", "train", steps, steps * 0.1, {"loss": loss[part]}))
            held_out = 0.01 + 0.9 * np.exp(-(fit * N + at * EVERY) / 150)
            value = {"loss": np.array([held_out])}
            found += detector.update(Block("", "val", steps[-1:], steps[-1:] * 0.1, value))
    assert not [one for one in found if one.rule == "validation_loss"]
