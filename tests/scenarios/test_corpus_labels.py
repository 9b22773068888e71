"""What a run was, by the rules of docs/corpus.md, on series whose answer is known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scenarios.corpus.about import About
from scenarios.corpus.causes import CAUSES
from scenarios.corpus.labels import SYMPTOMS, Label, label
from scenarios.corpus.traces import Trace

from corpuskit import HEALTHY, SICK, N, bad_at, falling, grown, norms, trace


def test_a_run_that_learns_is_healthy() -> None:
    assert label(trace(HEALTHY, loss=falling(), grad_norm=norms())) == Label("healthy", "")


def test_a_run_meant_to_be_sick_that_is_not_is_left_out() -> None:
    found = label(trace(SICK, loss=falling(), grad_norm=norms()))
    assert found.kind == "left out" and found.onset is None


SPOILT: dict[str, Callable[[], Trace]] = {
    "nonfinite": lambda: trace(HEALTHY, loss=bad_at(falling(), 500)),
    "crashed": lambda: trace(HEALTHY, ending="ValueError: NaN", loss=falling()),
    "skipping": lambda: trace(
        HEALTHY, loss=falling(), update_applied=(np.arange(N) < 300).astype(float)
    ),
    "ended above its start": lambda: trace(HEALTHY, loss=falling()[::-1] ** 2 + 0.1),
    "learnt nothing": lambda: trace(HEALTHY, loss=1 + 0.01 * norms()),
}


@pytest.mark.parametrize("why", SPOILT)
def test_a_run_meant_to_be_healthy_that_is_not_is_left_out(why: str) -> None:
    found = label(SPOILT[why]())
    assert (found.kind, found.why) == ("left out", why)


@pytest.mark.parametrize("family", ["rl-off-policy", "gan", "curriculum"])
def test_a_loss_that_cannot_be_compared_over_time_may_rise(family: str) -> None:
    rising = falling()[::-1].copy()
    run = trace(About(family, False), loss=rising, reward=np.arange(N) + norms())
    assert label(run).kind == "healthy"


def test_a_held_out_number_that_moved_is_learning_too() -> None:
    flat = trace(HEALTHY, loss=1 + 0.01 * norms())
    held = trace(HEALTHY, stage="val", custom=np.linspace(0.5, 0.9, 6))
    both = Trace("made", 0, HEALTHY, {}, "", flat.parts + held.parts)
    assert label(both).kind == "healthy"


SKIPS = (np.arange(N) < 450).astype(float)
ENDED: dict[str, tuple[Callable[[], Trace], int, int]] = {
    "nonfinite": (lambda: trace(SICK, loss=bad_at(falling(), 500)), 500, 500),
    "crashed": (lambda: trace(SICK, ending="ValueError", loss=falling()), N - 1, N - 1),
    "skipping": (lambda: trace(SICK, loss=falling(), update_applied=SKIPS), 450, 450),
    "frozen": (
        lambda: trace(
            SICK, loss=falling(), update_norm=np.where(np.arange(N) < 400, 0.1, 0.0)
        ),
        400,
        400,
    ),
    "constant": (
        lambda: trace(SICK, loss=np.where(np.arange(N) < 300, falling(), 1e6)), 300, 300
    ),
    "worse": (
        lambda: trace(SICK, loss=falling() * np.where(np.arange(N) < 400, 1, 8)), 400, 425
    ),
    "learnt-nothing": (lambda: trace(SICK, loss=1 + 0.01 * norms()), 0, 0),
    "runaway": (lambda: trace(SICK, loss=falling(), param_norm=grown(200, 80)), 230, 345),
    "beyond-bound": (
        lambda: trace(
            SICK,
            facts={"gamma": "0.9"},
            loss=falling(),
            reward=np.where(np.arange(N) < 100, -1.0, 1.0),
            q_max=np.where(np.arange(N) < 250, 5.0, 40.0),
        ),
        250,
        250,
    ),
    "hidden": (
        lambda: trace(
            SICK, loss=falling(), grad_norm=grown(200, 30), clip_threshold=np.ones(N)
        ),
        280,
        340,
    ),
    "entropy": (
        lambda: trace(SICK, loss=falling(), entropy=np.where(np.arange(N) < 100, 1.4, 0.01)),
        96,
        100,
    ),
}  # fmt: skip


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_each_symptom_and_its_onset(symptom: str) -> None:
    make, low, high = ENDED[symptom]
    found = label(make())
    assert found.kind == "sick" and symptom in found.why.split(), found
    assert found.onset is not None and low <= found.onset <= high


def test_a_loss_that_came_down_to_chance_has_learnt_nothing() -> None:
    stuck = 1000 * np.exp(-np.arange(N) / 10) + 2.08 + 0.01 * norms()
    found = label(trace(SICK, facts={"classes": "8"}, loss=stuck))
    assert found.why == "learnt-nothing" and found.onset == 0


def test_losses_of_both_signs_are_worse_when_the_gain_is_lost() -> None:
    down = -5 * (1 - np.exp(-np.arange(N) / 60)) + 0.1 * np.log(norms())
    assert label(trace(SICK, loss=down)).kind == "left out"
    back = np.where(np.arange(N) < 400, down, 0.0)
    found = label(trace(SICK, loss=back))
    assert "worse" in found.why.split() and 375 <= (found.onset or 0) <= 425


def test_a_scaler_that_probes_its_limit_is_no_trouble() -> None:
    skipped = np.zeros(N, bool)
    skipped[[*range(1, 9), 200, 400, N - 1]] = True
    run = {
        "grad_norm": np.where(skipped, np.inf, norms()),
        "update_applied": np.where(skipped, 0.0, 1.0),
    }
    assert label(trace(HEALTHY, loss=falling(), **run)).kind == "healthy"
    for_good = np.arange(N) >= 500
    run["grad_norm"] = np.where(for_good, np.nan, run["grad_norm"])
    run["update_applied"] = np.where(for_good, 0.0, run["update_applied"])
    assert label(trace(SICK, loss=falling(), **run)).first_bad == 500


def test_a_bad_gradient_that_was_used_is_bad_at_once() -> None:
    once = np.where(np.arange(N) == 321, np.inf, norms())
    assert label(trace(SICK, loss=falling(), grad_norm=once)).first_bad == 321


# --- precursors ----------------------------------------------------------------------------------


def test_growth_before_the_first_bad_attempt_is_a_precursor_and_the_onset() -> None:
    found = label(trace(SICK, loss=bad_at(falling(), 500), grad_norm=grown(430, 8)))
    assert found.first_bad == 500 and found.curable
    assert found.precursor is not None and 440 <= found.precursor <= 470
    assert found.onset == found.precursor


def test_slow_growth_is_one_too() -> None:
    found = label(trace(SICK, loss=bad_at(falling(), 590), grad_norm=grown(100, 70)))
    assert found.precursor is not None and 300 <= found.precursor <= 450


def test_nothing_before_a_domain_error() -> None:
    for seed in range(20):
        run = trace(SICK, loss=bad_at(falling(seed=seed), 500), grad_norm=norms(seed=seed + 99))
        assert label(run).precursor is None


def test_a_lone_spike_that_healed_is_not_a_precursor() -> None:
    spiky = norms()
    spiky[300] = 50.0
    assert label(trace(SICK, loss=bad_at(falling(), 500), grad_norm=spiky)).precursor is None


def test_what_begins_less_than_five_attempts_before_is_not_one() -> None:
    late = norms() * np.where(np.arange(N) >= 496, 1e3, 1)
    assert label(trace(SICK, loss=bad_at(falling(), 500), grad_norm=late)).precursor is None
    early = norms() * np.where(np.arange(N) >= 495, 1e3, 1)
    found = label(trace(SICK, loss=bad_at(falling(), 500), grad_norm=early))
    assert found.precursor == 495


def test_a_run_that_explodes_at_once() -> None:
    loss = bad_at(2.0 * 3.0 ** np.arange(40), 30)
    found = label(trace(SICK, loss=loss))
    assert found.precursor == 4 and not found.curable


def test_values_that_grow_as_they_learn_are_no_precursor() -> None:
    learning = 10 * (1 - np.exp(-np.arange(N) / 150)) + 0.05 * norms()
    found = label(trace(SICK, loss=bad_at(falling(), 500), q_mean=learning))
    assert found.precursor is None


def test_every_cause_has_a_name_that_fits() -> None:
    assert all(cause.syndromes for cause in CAUSES.values())
