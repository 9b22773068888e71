"""The same findings however the points were batched, and across a restart."""

from __future__ import annotations

import msgspec
import numpy as np
from families import RUN, Trace, noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding

N = 560


def ailing(seed: int) -> Trace:
    """A bit of everything: growth, holes, skips, spikes, Q beyond its bound, a risen loss."""
    rng = np.random.default_rng(seed)
    t = np.arange(N)
    growth = 2.0 ** (np.clip(t - 250, 0, 250) / rng.uniform(2, 60))
    norm = noise(rng, N, 0.4) * growth
    loss = noise(rng, N, 0.2) * np.where(t > 450, 50, 1)
    if seed % 2:
        norm[rng.random(N) < 0.05] = rng.choice([np.nan, np.inf])
        loss[rng.random(N) < 0.01] = np.nan
    applied = (rng.random(N) > 0.02) * 1.0
    applied[500:540] = 0
    layers = np.stack([0.9 * norm, 0.1 * norm, noise(rng, N, 0.4)])
    return Trace(
        {
            "grad_norm": norm,
            "loss": loss,
            "update_applied": applied,
            "skip_reason": np.where(applied == 0, rng.integers(1, 3, N), 0.0),
            "clip_threshold": np.ones(N),
            "q_max": 3 * growth,
            "q_min": -growth,
            "q_mean": 0.01 * growth,
            "q_std": 0.01 * growth,
            "entropy": noise(rng, N, 0.1),
            "reward_abs_max": np.full(N, rng.choice([1.0, 500.0])),
        },
        {"gamma": "0.95"},
        {
            "grad_norm_layer": (("gru", "head", "embed"), layers),
            "param_norm_layer": (("gru", "head", "embed"), np.where(t > 300, 30, 1) * layers),
        },
    )


def run(blocks: list[Block], facts: dict[str, str]) -> list[Finding]:
    detector = RunDetector(RUN, facts)
    return [f for block in blocks for f in detector.update(block)]


def same(a: list[Finding], b: list[Finding]) -> bool:
    return sorted(map(repr, a)) == sorted(map(repr, b))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, N - 1), max_size=24))
def test_any_batching_finds_the_same(seed: int, cuts: set[int]) -> None:
    trace = ailing(seed)
    whole = run([trace.block(0, N)], trace.facts)
    assert len(whole) >= 3
    assert same(whole, run(trace.blocks(sorted(cuts)), trace.facts))


def test_point_by_point_finds_the_same() -> None:
    for seed in (0, 1):
        trace = ailing(seed)
        whole = run([trace.block(0, N)], trace.facts)
        assert same(whole, run(trace.blocks(range(1, N)), trace.facts))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000), at=st.integers(1, N - 1))
def test_restart_changes_nothing(seed: int, at: int) -> None:
    trace = ailing(seed)
    whole = run([trace.block(0, N)], trace.facts)
    before = RunDetector(RUN, trace.facts)
    found = before.update(trace.block(0, at))
    saved = msgspec.msgpack.encode(before.state())
    after = RunDetector.restore(RUN, trace.facts, msgspec.msgpack.decode(saved))
    found += after.update(trace.block(at, N))
    assert same(whole, found)
    assert after.coverage() == before.coverage() or at < N


def test_state_of_another_version_starts_afresh() -> None:
    trace = ailing(0)
    detector = RunDetector(RUN, trace.facts)
    detector.update(trace.block(0, 300))
    old = detector.state() | {"version": -1}
    fresh = RunDetector.restore(RUN, trace.facts, old)
    assert same(run([trace.block(0, N)], trace.facts), fresh.update(trace.block(0, N)))


def test_state_stays_bounded() -> None:
    """600 000 attempts of NaN: no more memory than after the first hundred."""
    n = 200_000
    nan = np.full(n, np.nan)
    detector = RunDetector(RUN, {})
    sizes, count = [], 0
    for part in range(3):
        steps = np.arange(part * n, (part + 1) * n)
        count += len(detector.update(Block("", "train", steps, steps * 1.0, {"loss": nan})))
        sizes.append(len(msgspec.msgpack.encode(detector.state())))
    assert sizes[2] <= sizes[0] + 64
    assert 590 <= count <= 610, "first fire, then a reminder every 1000"
