"""What stands as it was made, or is 0 from the first batch on: statistics, losses, inputs."""

from __future__ import annotations

import numpy as np
from families import RUN, Array, Trace, noise, watch

from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding

N = 1500
RNG = np.random.default_rng(0)
LOSS = 2.0 * np.exp(-np.arange(N) / 200) * noise(RNG, N, 0.1)
RUNNING = ("bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var")


def statistics(values: Array, names: tuple[str, ...] = RUNNING) -> list[Finding]:
    trace = Trace({"loss": LOSS}, layers={"buffer_abs_max_layer": (names, values)})
    return [one for one in watch(trace, 37) if one.rule == "idle_statistics"]


def test_batchnorm_that_stays_in_evaluation_mode() -> None:
    made = np.tile([0.0, 1.0, 0.0, 1.0], (N, 1)).T
    found = statistics(made)
    assert found[0].step == 15 and found[0].onset_step == 0 and "2 BatchNorm" in found[0].message
    measured_now_and_then = np.where(np.arange(N) % 3 == 0, made, np.nan)
    assert statistics(measured_now_and_then)
    one_sees = made.copy()
    one_sees[2:, 1:] = [[0.1], [1.2]]
    assert not statistics(one_sees), "a layer may be out of use"
    moves = made.copy()
    moves[1, 10:] = 0.9
    assert not statistics(moves)
    assert not statistics(np.full((1, N), 1.0), ("ema.decay",)), "no statistics"
    late = made.copy()
    late[:, 300:] = 0.5
    alone = statistics(made[:2], RUNNING[:2])
    assert {int(one.severity) for one in alone} == {1}, "it may be in a branch that is not used"
    assert [one.cleared for one in statistics(late)][-1], "model.train() was called"


def tasks(second: Array, first: Array = LOSS[:300], what: str = "task") -> list[Finding]:
    """Findings of a run whose second task (or fit) begins at 300 with these losses."""
    loss = np.concatenate([first, second])
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    for block in Trace({"loss": loss}).blocks(range(20, len(loss), 20)):
        if int(block.steps[0]) == 300:
            found += detector.mark(what, 300, {})
        found += detector.update(block)
        detector = RunDetector.restore(RUN, {}, detector.state())
    return [one for one in found if one.rule == "constant_loss"]


def test_a_task_whose_loss_is_zero_from_its_first_batch_on() -> None:
    (found, *_) = tasks(np.zeros(300))
    assert found.onset_step == 300 and found.step == 320
    learnt = LOSS[:300] * 0.01
    learnt[100:] = 0
    assert tasks(learnt), "another loss: it jumps to 0 within its own range"
    solved = np.maximum(0, 0.5 * np.exp(-np.arange(300) / 20) * noise(RNG, 300, 0.3) - 0.01)
    assert (solved[-150:] == 0).all() and not tasks(solved)
    filling = np.concatenate(
        [np.zeros(64), 0.1 * LOSS[:236]]
    )  # a buffer, before anything is learnt
    assert not tasks(filling, filling), "tasks begin with zeros"
    assert not tasks(filling, what="fit")


def test_inputs_of_zeros_are_told_by_rewards_where_values_are_learnt() -> None:
    loss = 0.2 * np.exp(-np.arange(N) / 60) * noise(RNG, N, 0.1) + 0.02
    shares = ("q.0",), np.full((1, N), 0.8)

    def severities(reward: Array, loss: Array = loss) -> list[int]:
        trace = Trace(
            {"loss": loss, "reward": reward},
            {"gamma": "0.95"},
            {"unreached_fraction_layer": shares},
        )
        return [int(one.severity) for one in watch(trace) if one.rule == "unreached"]

    stands = -0.6 * noise(RNG, N, 0.1)
    rises = np.linspace(-0.6, 3.0, N) + 0.05 * RNG.normal(size=N)
    assert max(severities(stands)) == 2
    assert max(severities(rises)) == 1
    assert severities(stands, 0.2 * noise(RNG, N, 0.05))[0] == 2, "a loss that stands says enough"
    assert max(severities(np.concatenate([rises[:700], rises[:300], rises[700:]]))) == 1, "a dip"
    found_late = np.concatenate([np.zeros(900), np.linspace(0, 1, N - 900)])
    assert max(severities(found_late)) == 1
