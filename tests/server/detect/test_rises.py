"""Rules that compare several numbers with what the untrained model had, and rules of the RL pack
on a loss that says nothing of the rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import RUN, Array, alarms, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding

N = 1600
T = np.arange(N)
RISES = 40 * (1 - np.exp(-T / 300))
STANDS = np.full(N, 5.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def wobble(level: Array | float, seed: int, spread: float = 0.1) -> Array:
    return level * noise(rng(seed), N, spread)


def told(
    tables: dict[str, dict[str, Array]],
    rule: str,
    marks: dict[int, str] | None = None,
    size: int = 200,
    facts: dict[str, str] | None = None,
) -> list[Finding]:
    """Alarms of one rule of a run, given by scope, on a server that restarts after every batch."""
    detector, found = RunDetector(RUN, facts or {}), []
    for start in range(0, N, size):
        if what := (marks or {}).get(start):
            found += detector.mark(what, start, {})
        part = slice(start, start + size)
        blocks = [
            Block(scope, "train", T[part], T[part] * 0.1, {k: v[part] for k, v in table.items()})
            for scope, table in tables.items()
        ]
        found += detector.feed(blocks)
        detector = RunDetector.restore(RUN, facts or {}, detector.state())
    return [f for f in alarms(found) if f.rule == rule]


def grown(by: float, since: int = 600, over: int = 300) -> Array:
    """1, then up to `by` within `over` records."""
    return by ** np.clip((T - since) / over, 0, 1)


def pair(loss: float, norm: float, **others: Any) -> dict[str, Array]:
    """Loss and norm that end at these multiples of what they began with."""
    return {
        "loss": wobble(2 * grown(loss), 1),
        "grad_norm": wobble(0.5 * grown(norm), 2),
        **others,
    }


def test_loss_and_gradient_that_rise_together_are_told_and_either_alone_is_not() -> None:
    (found, *_) = told({"": pair(12, 12)}, "joint_rise")
    assert 700 < found.step < 900 and found.step - 40 < found.onset_step < found.step
    assert "Loss" in found.title and "gradient norm" in found.title
    assert not told({"": pair(1, 300)}, "joint_rise")
    assert not told({"": pair(300, 1)}, "joint_rise")
    assert not told({"": pair(5, 5)}, "joint_rise")


def test_games_of_two_may_rise_further() -> None:
    both = {"generator": pair(10, 10), "discriminator": pair(1, 1)}
    assert not told(both, "joint_rise")
    both["generator"] = pair(16, 16)
    assert {f.scope for f in told(both, "joint_rise")} == {"generator"}


def test_errors_that_grow_with_the_rewards_are_no_rise() -> None:
    facts = {"gamma": "0.99"}
    assert not told({"": pair(40, 40, reward=RISES)}, "joint_rise", facts=facts)
    assert told({"": pair(40, 40, reward=STANDS)}, "joint_rise", facts=facts)
    assert not told({"": pair(16, 16, reward=STANDS)}, "joint_rise", facts=facts)
    known = pair(40, 40, reward=STANDS, q_mean=STANDS)  # rules on values know how far they may go
    assert not told({"": known}, "joint_rise", facts=facts)


@pytest.mark.parametrize(("what", "heard"), [("task", True), ("resume", True), ("fit", False)])
def test_another_fit_alone_begins_anew(what: str, heard: bool) -> None:
    high = pair(12, 12)
    high |= {kind: np.where(T < 800, values[0], values) for kind, values in high.items()}
    found = told({"": high}, "joint_rise", {800: what})
    assert bool(found) is heard


def test_a_loss_that_begins_near_nothing_finds_its_level_first() -> None:
    low = np.minimum(1.0, 1e-4 + (T / 60) ** 2)  # a penalty on leaving the reference model
    table = {"loss": wobble(low, 1), "grad_norm": wobble(low, 2)}
    assert not told({"": table}, "joint_rise")


@pytest.mark.parametrize("size", [8, 40, 400])
def test_batches_make_no_difference(size: int) -> None:
    def what(size: int) -> list[tuple[int, int, str]]:
        tables = {"": pair(20, 20, reward=STANDS)}
        found = told(tables, "joint_rise", {800: "task"}, size)
        fell = {"": {"loss": wobble(np.exp(-T / 90), 1, 0.02), "reward": STANDS}}
        found += told(fell, "hollow_loss", size=size, facts={"gamma": "0.9"})
        return [(f.step, f.onset_step, f.title) for f in found]

    assert what(size) == what(200) and len(what(size)) >= 2


def test_values_that_are_not_finite_blind_it_not() -> None:
    table = pair(20, 20)
    table["loss"][650:700:7] = np.nan
    table["grad_norm"][655:700:9] = np.inf
    assert told({"": table}, "joint_rise")


# --- new tasks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("peak", "heard"), [(60, True), (12, False)])
def test_a_peak_after_a_new_task_is_told_though_it_heals(peak: float, heard: bool) -> None:
    loss = wobble(2.3 * np.exp(-T / 80) + 0.05, 1)
    loss[800:806] = 2.3 * peak
    loss[806:] = wobble(0.4, 3)[806:]
    found = told({"": {"loss": loss}}, "task_shock", {800: "task"})
    assert bool(found) is heard
    assert all(f.onset_step == 800 and "4 losses in a row" in f.message for f in found)
    loss[801:806] = loss[806:811]
    assert not told({"": {"loss": loss}}, "task_shock", {800: "task"}), "one batch"


# --- rewards -------------------------------------------------------------------------------------


def hollow(left: float, reward: Array, scopes: tuple[str, ...] = ("",), **facts: str) -> bool:
    loss = wobble(np.maximum(left, np.exp(-T / 60)), 1, 0.02)
    tables: dict[str, dict[str, Array]] = {scope: {"loss": loss} for scope in scopes}
    tables[""] = {**tables.get("", {}), "reward": reward}
    return bool(told(tables, "hollow_loss", facts={"gamma": "0.99", **facts}))


def test_a_loss_that_is_gone_under_rewards_that_never_rose() -> None:
    assert hollow(0.002, STANDS)
    assert hollow(0.002, wobble(STANDS, 4, 0.3))
    assert not hollow(0.03, STANDS), "the loss of a critic may come down by much"
    assert not hollow(0.002, RISES)
    assert not hollow(0.002, STANDS, ("actor", "critic")), "a critic of what does not learn"


def test_a_hollow_loss_is_told_by_three_quarters_of_a_known_length() -> None:
    loss = wobble(np.maximum(0.002, np.exp(-T / 60)), 1, 0.02)
    table = {"": {"loss": loss, "reward": STANDS}}
    for steps, most in (("800", 640), ("100000", 1024)):
        (found, *_) = told(table, "hollow_loss", facts={"gamma": "0.99", "max_steps": steps})
        assert most - 64 < found.step + 1 <= most and found.onset_step == 0
