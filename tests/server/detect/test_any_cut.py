"""Made-up runs full of trouble, marks and changing layers: the same findings and the same state of
every rule, however the records are cut into blocks and wherever the server is restarted."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from families import RUN, Array

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding

SCALARS = {"loss": 2.0, "grad_norm": 1.0, "clip_threshold": 1.0, "logit_max": 10.0,
           "param_norm": 10.0, "reward": 1.0, "q_max": 3.0}  # fmt: skip
LAYERS = {
    "grad_norm_layer": tuple(f"l{n}" for n in range(9)),
    "param_norm_layer": ("l0", "l1"),
    "buffer_abs_max_layer": ("a.running_mean", "a.running_var", "b.running_mean", "b.running_var"),
    "unreached_fraction_layer": ("l0", "l1"),
}


@dataclass
class Run:
    """A run of `records` attempts; `uses` says which layers are measured from a record on."""

    records: int
    scalars: dict[str, Array]
    layers: dict[str, Array]
    facts: dict[str, str]
    uses: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)


def series(rng: np.random.Generator, records: int, base: float) -> Array:
    """Noise with up to three troubles: holes, infinities, zeros, leaps, growth, rest."""
    values = base * np.exp(rng.normal(0, rng.choice([0.02, 0.1, 0.5]), records))
    for _ in range(rng.integers(0, 4)):
        start = int(rng.integers(0, records))
        part = slice(start, start + int(rng.choice([1, 3, 20, 200])))
        rest = np.arange(records - start)
        match int(rng.integers(0, 8)):
            case 0:
                values[part] = np.nan
            case 1:
                values[part] = np.inf
            case 2:
                values[part] = 0
            case 3:
                values[part] *= 10.0 ** rng.integers(1, 9)
            case 4:
                values[start:] *= np.exp(np.minimum(0.03 * rest, 25))
            case 5:
                values[part] = values[start]
            case 6:
                values[part] *= -1
            case 7:
                values[start:] *= np.exp(np.minimum(1e-4 * rest**2, 40))
    return values


def made_up(seed: int) -> Run:
    """Another run for every seed."""
    rng = np.random.default_rng(seed)
    records = int(rng.choice([300, 900, 1600]))
    kept = [kind for kind in SCALARS if kind == "loss" or rng.random() < 0.7]
    scalars = {kind: series(rng, records, SCALARS[kind]) for kind in kept}
    scalars["loss"] *= np.exp(-np.arange(records) / rng.choice([50, 3000]))
    layers = {
        kind: np.stack([series(rng, records, 1.0) for _ in names])
        for kind, names in LAYERS.items()
        if rng.random() < 0.7
    }
    if "buffer_abs_max_layer" in layers and rng.random() < 0.5:
        layers["buffer_abs_max_layer"] = np.tile([0.0, 1.0, 0.0, 1.0], (records, 1)).T
    facts = {"gamma": "0.99"} if rng.random() < 0.3 else {}
    run = Run(records, scalars, layers, facts)
    for at in (0, *rng.integers(1, records, 2).tolist()):
        run.uses[at] = {
            kind: sorted(rng.permutation(len(rows))[: rng.integers(1, len(rows) + 1)].tolist())
            for kind, rows in layers.items()
        }
    for at in rng.integers(1, records, rng.integers(0, 4)).tolist():
        run.marks[at] = str(rng.choice(["task", "fit", "resume"]))
    return run


def watched(run: Run, size: int, restarts: random.Random | None) -> tuple[list[Finding], bytes]:
    """Findings, and the state of all rules at the end, of the run in blocks of `size` at most."""
    detector, found = RunDetector(RUN, run.facts), []
    edges = sorted({*range(0, run.records, size), *run.uses, *run.marks, run.records})
    for start, stop in itertools.pairwise(edges):
        if start in run.marks:
            found += detector.mark(run.marks[start], start, {})
        used = run.uses[max(at for at in run.uses if at <= start)]
        block = Block(
            "", "train", np.arange(start, stop), np.arange(start, stop) * 0.5,
            {kind: values[start:stop] for kind, values in run.scalars.items()},
            {
                kind: (tuple(LAYERS[kind][row] for row in rows), run.layers[kind][rows, start:stop])
                for kind, rows in used.items()
            },
        )  # fmt: skip
        found += detector.feed([block])
        if restarts is not None and restarts.random() < 0.2:
            saved = msgspec.msgpack.decode(msgspec.msgpack.encode(detector.state()))
            detector = RunDetector.restore(RUN, run.facts, saved)
    return found, msgspec.msgpack.encode(sorted(detector.state()["rules"], key=lambda one: one[:2]))


def words(findings: list[Finding]) -> list[str]:
    return sorted(map(repr, findings))


@pytest.mark.parametrize("seed", range(12))
def test_findings_and_states_do_not_depend_on_the_cut(seed: int) -> None:
    run = made_up(seed)
    found, state = watched(run, 8, None)
    for size in (1, 7, 64, 256, 1000):
        if size == 1 and run.records > 1000:
            continue  # as slow as it is long
        restarts = random.Random(seed) if size != 64 else None
        again, other = watched(run, size, restarts)
        assert words(again) == words(found), f"in blocks of {size}"
        assert other == state, f"in blocks of {size}"


def test_the_runs_are_full_of_trouble() -> None:
    rules = {one.rule for seed in range(12) for one in watched(made_up(seed), 256, None)[0]}
    assert len(rules) >= 15, rules
