"""Synthetic trainings, healthy and sick, that the tests of the rules share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding, Severity

RUN = "0" * 32
Rng = np.random.Generator
Array = np.ndarray


@dataclass
class Trace:
    """One run's numbers, one column per attempt."""

    scalars: dict[str, Array]
    facts: dict[str, str] = field(default_factory=dict)
    layers: dict[str, tuple[tuple[str, ...], Array]] = field(default_factory=dict)

    def __len__(self) -> int:
        scalars = next(iter(self.scalars.values()), None)
        return len(scalars) if scalars is not None else len(next(iter(self.layers.values()))[1].T)

    def block(self, start: int, stop: int, scope: str = "", stage: str = "train") -> Block:
        steps = np.arange(start, stop)
        return Block(
            scope,
            stage,
            steps,
            steps * 0.5,
            {kind: values[start:stop] for kind, values in self.scalars.items()},
            {kind: (names, v[:, start:stop]) for kind, (names, v) in self.layers.items()},
        )

    def blocks(self, cuts: Iterable[int], scope: str = "") -> list[Block]:
        edges = [0, *cuts, len(self)]
        pairs = itertools.pairwise(edges)
        return [self.block(a, b, scope) for a, b in pairs if a < b]


def watch(trace: Trace, size: int = 500, facts: dict[str, str] | None = None) -> list[Finding]:
    """All findings over the trace."""
    detector = RunDetector(RUN, facts if facts is not None else trace.facts)
    cuts = range(size, len(trace), size)
    return [f for block in trace.blocks(cuts) for f in detector.update(block)]


def alarms(findings: list[Finding]) -> list[Finding]:
    """Warnings and worse."""
    return [f for f in findings if f.severity >= Severity.WARNING and not f.cleared]


def noise(rng: Rng, n: int, sigma: float) -> Array:
    return np.exp(rng.normal(0, sigma, n))


def gradients(rng: Rng, total: Array, **more: Array) -> Trace:
    """A trace with six layers below the total."""
    share = np.sqrt(rng.dirichlet(np.ones(6)))
    layers = share[:, None] * total * np.exp(rng.normal(0, 0.3, (6, len(total))))
    names = tuple(f"block{i}.weight" for i in range(6))
    return Trace(
        {"grad_norm": total, "update_applied": np.ones(len(total)), **more},
        layers={"grad_norm_layer": (names, layers)},
    )


def decay(t: Array) -> Array:
    return 2 * np.exp(-t / 800) + 0.5


# --- healthy -------------------------------------------------------------------------------------


def ppo(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm = rng.uniform(1, 3) * noise(rng, n, 0.5)
    trace = gradients(rng, norm, loss=rng.normal(0, 1, n), clip_threshold=np.full(n, 0.5))
    trace.facts = {"gamma": "0.99"}
    return trace


def language_model(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm = (0.8 + 8 * np.exp(-t / 100)) * noise(rng, n, 0.2)
    return gradients(rng, norm, loss=decay(t) * noise(rng, n, 0.05), clip_threshold=np.ones(n))


def warm_up(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm = (0.3 + 5 * np.minimum(1, t / 200)) * noise(rng, n, 0.3)
    return gradients(rng, norm, loss=decay(t) * noise(rng, n, 0.08))


def lr_restarts(rng: Rng, t: Array) -> Trace:
    n = len(t)
    phase = (t % 1000) / 1000
    bump = 1 + 0.8 * np.exp(-(t % 1000) / 50) * (t > 1000)
    return gradients(
        rng, (1 + 3 * (1 - phase)) * noise(rng, n, 0.3), loss=decay(t) * bump * noise(rng, n, 0.08)
    )


def small_batches(rng: Rng, t: Array) -> Trace:
    n = len(t)
    return gradients(rng, rng.uniform(0.1, 20) * noise(rng, n, 0.8), loss=noise(rng, n, 0.7))


def heavy_tails(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm = rng.uniform(0.1, 20) * np.exp(0.5 * rng.standard_t(4, n))
    return gradients(rng, norm, loss=np.exp(0.4 * rng.standard_t(4, n)))


def correlated(rng: Rng, t: Array) -> Trace:
    n = len(t)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = 0.9 * x[i - 1] + rng.normal(0, 0.25)
    return gradients(rng, 3 * np.exp(x), loss=decay(t) * np.exp(0.3 * x))


def lone_spikes(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm, loss = noise(rng, n, 0.3), decay(t) * noise(rng, n, 0.05)
    at = rng.choice(n, 8, replace=False)
    norm[at] *= rng.uniform(50, 5000, 8)
    loss[at] *= 10
    return gradients(rng, norm, loss=loss)


def lr_drop(rng: Rng, t: Array) -> Trace:
    n = len(t)
    late = t > n // 2
    loss = np.where(late, 0.4 + 0.6 * np.exp(-(t - n // 2) / 50.0), 1 + np.exp(-t / 300))
    return gradients(rng, 2 * noise(rng, n, 0.4) * (1 + t / n), loss=loss * noise(rng, n, 0.15))


def interpolation(rng: Rng, t: Array) -> Trace:
    n = len(t)
    loss = (np.exp(-t / 300) + 1e-5) * noise(rng, n, 1.0)
    return gradients(rng, np.sqrt(loss) * noise(rng, n, 0.5), loss=loss)


def saddle_escape(rng: Rng, t: Array) -> Trace:
    n = len(t)
    norm = (0.01 + 5 * np.exp(-(((t - 600) / 80.0) ** 2))) * noise(rng, n, 0.2)
    return gradients(rng, norm, loss=1 / (1 + np.exp((t - 600) / 50)) + 0.05)


def values(rng: Rng, q: Array, reward: float) -> Trace:
    n = len(q)
    spread = 0.3 * np.abs(q) + 0.1
    trace = gradients(
        rng,
        (0.1 + np.abs(q) / 20) * noise(rng, n, 0.5),
        loss=0.01 + q * q / 1000 * noise(rng, n, 0.3),
        q_mean=q,
        q_std=spread,
        q_min=q - 2 * spread,
        q_max=q + 2 * spread * noise(rng, n, 0.1),
        reward_abs_max=np.full(n, reward),
    )
    trace.facts = {"gamma": "0.99"}
    return trace


def saturating_q(rng: Rng, t: Array) -> Trace:
    top = rng.choice([10.0, 80.0, 2000.0])
    return values(rng, top * (1 - np.exp(-t / rng.choice([100, 300, 1000]))), top / 90)


def late_q(rng: Rng, t: Array) -> Trace:
    top = rng.choice([10.0, 80.0, 500.0])
    return values(rng, top / (1 + np.exp(-(t - 1500) / rng.choice([50, 100, 300]))), top / 50)


def scaler_warm_up(rng: Rng, t: Array) -> Trace:
    n = len(t)
    skipped = (t < 16) | (t % 1000 == 999)
    norm = np.where(skipped, np.inf, noise(rng, n, 0.3))
    return Trace(
        {
            "grad_norm": norm,
            "loss": decay(t) * noise(rng, n, 0.05),
            "update_applied": 1.0 - skipped,
            "skip_reason": 1.0 * skipped,
        }
    )


def accumulation(rng: Rng, t: Array) -> Trace:
    n = len(t)
    skipped = t % 8 != 7
    return Trace(
        {
            "grad_norm": noise(rng, n, 0.3),
            "loss": decay(t) * noise(rng, n, 0.05),
            "update_applied": 1.0 - skipped,
            "skip_reason": 2.0 * skipped,
        }
    )


HEALTHY: dict[str, Callable[[Rng, Array], Trace]] = {
    f.__name__: f
    for f in (
        ppo,
        language_model,
        warm_up,
        lr_restarts,
        small_batches,
        heavy_tails,
        correlated,
        lone_spikes,
        lr_drop,
        interpolation,
        saddle_escape,
        saturating_q,
        late_q,
        scaler_warm_up,
        accumulation,
    )
}

# --- sick ----------------------------------------------------------------------------------------


def exploding(rng: Rng, n: int, doubling: float, clip: float | None, begin: int = 200) -> Trace:
    """Norm 1, then doubling until it overflows to infinity."""
    power = np.minimum(np.maximum(0, np.arange(n) - begin) / doubling, 1000)
    norm = noise(rng, n, 0.3) * 2.0**power
    norm[norm > 3.4e38] = np.inf
    more = {} if clip is None else {"clip_threshold": np.full(n, clip)}
    trace = gradients(rng, norm, loss=noise(rng, n, 0.05), **more)
    trace.layers = {}
    return trace


def exploding_q(rng: Rng, n: int, doubling: float, reward: float) -> Trace:
    """|Q| 1, then doubling."""
    power = np.maximum(0, np.arange(n) - 200) / doubling
    trace = values(rng, noise(rng, n, 0.1) * 2.0 ** np.minimum(power, 120), reward)
    trace.layers = {}
    return trace
