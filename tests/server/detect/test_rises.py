"""Rules that compare several numbers with what the untrained model had, and rules of the RL pack
on a loss that says nothing of the rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import RUN, Array, Trace, alarms, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding

N = 1600
T = np.arange(N)
RISES = 40 * (1 - np.exp(-T / 300))
STANDS = np.full(N, 5.0)
PAYS_NO_MORE = 5.0 * noise(np.random.default_rng(40), N, 0.2)


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
        fell = {"": {"loss": wobble(np.exp(-T / 90), 1, 0.02), "reward": PAYS_NO_MORE}}
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
    assert hollow(0.002, PAYS_NO_MORE)
    assert not hollow(0.002, STANDS), "no reward found yet, or no more to earn"
    assert not hollow(0.03, PAYS_NO_MORE), "the loss of a critic may come down by much"
    assert not hollow(0.002, RISES)
    assert not hollow(0.002, PAYS_NO_MORE, ("actor", "critic")), "a critic of what does not learn"


def test_a_hollow_loss_is_told_by_three_quarters_of_a_known_length() -> None:
    loss = wobble(np.maximum(0.002, np.exp(-T / 60)), 1, 0.02)
    table = {"": {"loss": loss, "reward": PAYS_NO_MORE}}
    for steps, most in (("800", 640), ("100000", 1024)):
        (found, *_) = told(table, "hollow_loss", facts={"gamma": "0.99", "max_steps": steps})
        assert most - 64 < found.step + 1 <= most and found.onset_step == 0


# --- what only looks like trouble, and what only looks alive --------------------------------------


def turns(seed: int) -> Array:
    """Three tasks in random turn, each with a loss of its own size."""
    sizes = np.array([120.0, 1.4, 0.6])
    which = rng(seed).choice(3, N, p=[0.3, 0.4, 0.3])
    which[:12] = np.tile([0, 1, 2], 4)  # what rises within the first records could be anything
    return sizes[which] * noise(rng(seed + 50), N, 0.2)


def test_tasks_in_turn_with_losses_of_their_own_size_are_no_explosion() -> None:
    for seed in range(8):
        assert not told({"": {"loss": turns(seed)}}, "loss_explosion")
    blown = turns(1)
    blown[800:806] = [2e3, 2e4, 3e5, 4e6, 1e8, 1e10]
    assert told({"": {"loss": blown}}, "loss_explosion")[0].step <= 802
    alone = wobble(1.0, 2)
    alone[[300, 301]] = [80, 120]
    assert told({"": {"loss": alone}}, "loss_explosion"), "never seen before"
    spiked = wobble(1.0, 2)
    spiked[[300, 500]] = 70
    spiked[1000:] *= 400
    assert told({"": {"loss": spiked}}, "loss_explosion"), "far above the spikes"


def test_a_score_near_zero_is_no_victory() -> None:
    errors = wobble(np.minimum(2.0, 0.1 + T / 200), 1, 0.02)  # a discriminator that is fooled
    for low, heard in ((0.0, True), (-0.3, False)):
        score = 0.01 + low * np.sin(T / 9)
        score[:40] = 1.0
        found = told({"critic": {"loss": errors}, "generator": {"loss": score}}, "adversary")
        assert bool(found) is heard


def test_growth_of_a_critic_has_an_end() -> None:
    facts = {"gamma": "0.99"}
    grows = wobble(1e3 * 2.0 ** (np.maximum(0, T - 300) / 20), 1, 0.05)
    assert told({"": {"loss": grows, "reward": -STANDS}}, "loss_growth", facts=facts)
    assert not told({"": {"loss": grows, "reward": RISES}}, "loss_growth", facts=facts)
    some = wobble(1e3 * np.minimum(500.0, 2.0 ** (np.maximum(0, T - 300) / 20)), 1, 0.05)
    assert not told({"": {"loss": some, "reward": -STANDS}}, "loss_growth", facts=facts)


@pytest.mark.parametrize(("every", "heard"), [(3, True), (8, True), (60, False)])
def test_a_number_that_comes_back_to_the_last_bit(every: int, heard: bool) -> None:
    loss = wobble(np.exp(-T / 400), 1)
    loss[600:900:every] = 1e6
    found = told({"": {"loss": loss}}, "stand_in")
    assert bool(found) is heard
    assert all(596 <= f.onset_step <= 600 + every and "1e+06" in f.title for f in found)


def test_numbers_that_are_logged_in_few_digits_are_no_stand_in() -> None:
    rounded = np.round(wobble(0.05, 1), 2)
    assert not told({"": {"loss": rounded}}, "stand_in")
    filled = wobble(1.0, 1)
    filled[500] = 15.0
    assert not told({"": {"loss": np.repeat(filled, 10)[:N]}}, "stand_in"), "written until the next"
    spike = np.repeat(filled[450:], 10)[:N]
    assert not told({"": {"loss": spike}}, "stand_in")
    heavy = 0.1 * np.exp(2.0 * rng(3).normal(size=N))
    assert not told({"": {"loss": heavy}}, "stand_in")


def test_a_loss_that_stops_varying_is_told() -> None:
    loss = wobble(0.35, 1, 0.05)
    loss[600:900] = 0.35
    (found, *_) = told({"": {"loss": loss}}, "constant_loss")
    assert found.onset_step == 600 and found.step == 700
    smooth = np.maximum(0.3, 2.0 * np.exp(-T / 200))
    assert not told({"": {"loss": smooth}}, "constant_loss"), "it came to rest"
    rounded = np.round(wobble(0.008 + 0.06 * np.exp(-T / 500), 1, 0.12), 2)
    assert not told({"": {"loss": rounded}}, "constant_loss"), "written in two digits"
    stairs = wobble(0.35, 1, 0.05)[T // 120 * 120]
    assert not told({"": {"loss": stairs}}, "constant_loss"), "computed now and then"


def test_a_gradient_of_which_nobody_says_that_it_was_applied() -> None:
    norm = wobble(1.0, 1)
    norm[[200, 500, 501]] = np.inf
    log = {"loss": wobble(np.exp(-T / 400), 2), "grad_norm": norm}
    assert not told({"": log}, "nonfinite"), "a scaler skips such steps"
    norm[900:903] = np.nan
    (found, *_) = told({"": log}, "nonfinite", size=1)
    assert found.step == 902 and "Nothing here says" in found.message
    said = {**log, "update_applied": np.ones(N)}
    assert told({"": said}, "nonfinite")[0].step == 200


@pytest.mark.parametrize("size", [1, 40, 400])
def test_twin_critics_that_disagree_are_marked(size: int) -> None:
    def marks(one: str, two: str, far: float) -> list[tuple[int, str, str]]:
        values = {one: wobble(5.0, 1), two: wobble(np.where(T < 600, 5.0, far), 2)}
        tables = {scope: {"q_mean": mean, "q_std": mean} for scope, mean in values.items()}
        detector, found = RunDetector(RUN, {"gamma": "0.99"}), []
        for start in range(0, 1000, size):
            part = slice(start, start + size)
            found += detector.feed([
                Block(scope, "train", T[part], T[part] * 0.1, {k: v[part] for k, v in all_.items()})
                for scope, all_ in tables.items()
            ])  # fmt: skip
        return [(f.step, f.scope, f.title) for f in found if f.rule == "twin_gap"]

    (mark,) = marks("critic1", "critic2", 25.0)
    assert mark[0] < 640 and mark[1] == "critic2" and "disagree" in mark[2]
    assert not marks("critic1", "critic2", 7.0)
    assert not marks("actor", "critic", 25.0)
    assert not marks("agent1", "agent2", 25.0), "they see different things"
    (turned,) = marks("critic2", "critic1", 25.0)
    assert turned[1] == "critic2" and abs(turned[0] - mark[0]) <= 16


@pytest.mark.parametrize("size", [1, 40, 400])
def test_a_spike_names_the_layer_that_makes_it(size: int) -> None:
    names = ("embed", "block", "head")
    layers = np.stack([wobble(1.0, seed, 0.2) for seed in (1, 2, 3)])
    layers[0, [500, 501]] *= 100
    layers[2, 900] = np.nan
    layers[:, 1100] = 50
    total = np.sqrt(np.nansum(layers**2, axis=0))
    trace = Trace({"grad_norm": total}, layers={"grad_norm_layer": (names, layers)})
    detector = RunDetector(RUN, {})
    found = [f for block in trace.blocks(range(size, N, size)) for f in detector.update(block)]
    spikes = [(f.onset_step, f.layer) for f in found if f.rule == "grad_spike"]
    assert spikes == [(500, "embed"), (1100, "")]


# --- updates that are taken back -----------------------------------------------------------------


def moved(
    every: int,
    ratio: float | Array = 0.01,
    layers: int = 3,
    size: int = 200,
    digits: int = 12,
    until: int = N,
    all_of_them: bool = False,
) -> list[Finding]:
    """Weights that walk and are put back to where they began after `every` steps, until `until`."""
    walk = np.cumsum(1e-3 * rng(4).normal(size=(layers, N)), axis=1)
    last = np.minimum(np.floor(T / every).astype(int) * every, until)
    norms = np.round(2.0 + np.where(T == 0, 0, walk - walk[:, last]), digits)
    sizes = np.zeros((layers, N)) + ratio
    names = tuple(f"block{i}" for i in range(layers))
    table = {"param_norm_layer": (names, norms), "update_ratio_layer": (names, sizes)}
    trace = Trace({"loss": wobble(1.0, 5)}, layers=table)
    detector, found = RunDetector(RUN, {}), []
    for block in trace.blocks(range(size, N, size)):
        found += detector.update(block)
        detector = RunDetector.restore(RUN, {}, detector.state())
    told_of = [f for f in found if f.rule == "undone"]
    return told_of if all_of_them else alarms(told_of)


def test_weights_that_come_back_to_the_last_bit_are_told() -> None:
    (found, *_) = moved(50)
    assert found.onset_step == 0 and found.step == 150 and "are those of step 0" in found.title
    assert moved(50, size=7)[0].step == moved(50)[0].step
    assert not moved(N), "they never come back"
    assert not moved(50, ratio=1e-5), "steps of that size may leave a norm as it is"
    assert not moved(50, layers=1), "one norm may come back by chance"
    assert not moved(N, digits=2), "written in two digits"
    found = moved(50, until=400, all_of_them=True)
    assert [f.cleared for f in found] == [False, True]
    uneven = np.where(T % 256 == 255, 1e-5, 1e-2)
    assert len({moved(50, ratio=uneven, size=size)[0].step for size in (1, 7, 256)}) == 1
