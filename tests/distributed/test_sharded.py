"""FSDP2: parts of norms from every rank become the norms of the run, and nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch


def reference(launch, path: Path, *arguments: str) -> dict[str, Any]:
    """What torch says of the same training in one process, without nanwatch."""
    launch(None, "single", "--off", "--reference", "--out", str(path), *arguments).ended()
    return torch.load(path)


def layers(norms: dict[str, float]) -> dict[str, float]:
    """Norms of parameters as norms of their layers."""
    found: dict[str, list[float]] = {}
    for name, norm in norms.items():
        found.setdefault(name.rpartition(".")[0], []).append(norm)
    return {layer: math.hypot(*parts) for layer, parts in found.items()}


def agree(points: list[tuple[int, float]], expected: dict[int, float], every: bool = True) -> None:
    """Values of torch itself, nothing twice; of every attempt where the script clips."""
    steps = [step for step, _ in points]
    assert steps and len(steps) == len(set(steps))
    assert set(steps) == expected.keys() if every else set(steps) <= expected.keys()
    for step, value in points:
        assert value == pytest.approx(expected[step], rel=1e-6), step


@pytest.mark.parametrize(
    ("ranks", "more"),
    [(2, ("--clip", "0.05")), (4, ()), (4, ("--replicate", "--clip", "0.05"))],
    ids=["two, clipped", "four", "replicated twice, clipped"],
)
def test_combined_norms_are_those_of_one_process(server, launch, tmp_path, ranks, more):
    clip = tuple(one for one in more if one != "--replicate")
    expected = reference(launch, tmp_path / "single.pt", *clip)["seen"]
    training = launch(server, "fsdp", *more, ranks=ranks)
    training.ended()

    [run] = server.runs_of(training)
    totals = {one["step"]: math.hypot(*one["norms"].values()) for one in expected}
    every = "--clip" in more  # otherwise as often as the overhead budget allows
    agree(server.points(run["id"], "grad_norm"), totals, every)
    for layer in layers(expected[0]["norms"]):
        of_layer = {one["step"]: layers(one["norms"])[layer] for one in expected}
        agree(server.points(run["id"], "grad_norm_layer", layer), of_layer, every)
    parts = [server.points(run["id"], "grad_norm_shard", rank=rank) for rank in range(ranks)]
    common = set.intersection(*({step for step, _ in part} for part in parts))
    assert common == {step for step, _ in server.points(run["id"], "grad_norm")}
    said = server.detail(run["id"])["coverage"]["what"]["gradient norms"]
    assert said.startswith(f"sharded over {ranks} ranks, combined by the server")


@pytest.mark.parametrize("kind", ["fsdp", "ddp"])
def test_the_weights_are_the_same_to_the_last_bit(launch, tmp_path, kind):
    weights = []
    for name, off in (("without", ("--off",)), ("with", ())):
        path = tmp_path / f"{name}.pt"
        launch(
            None,
            *(kind, "--clip", "0.05", "--out", str(path), *off),
            ranks=2,
            NANWATCH_MODE="offline",
            NANWATCH_DATA_DIR=str(tmp_path / name),
        ).ended()
        weights.append(torch.load(path)["weights"])

    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
