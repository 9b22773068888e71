"""The examples run as they are printed, and what they promise reaches the disk."""

from __future__ import annotations

import gc
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanwatch
from integrations.spool import hello, only_spool, points
from nanwatch.integrations import tensorboard, wandb

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "lightning_fit": (96, ("", ""), [("val", "loss", ""), ("train", "custom", "train/loss")]),
    "transformers_trainer": (48, ("", ""), [("val", "loss", "")]),
    "accelerate_loop": (50, ("", ""), [("val", "custom", "error")]),
    "stable_baselines3_sac": (400, ("critic", "actor"), [("train", "reward", "")]),
    "torchrl_a2c": (32, ("", ""), [("train", "reward", "")]),
    "mirrors": (
        100,
        ("", ""),
        [("val", "custom", "error"), ("train", "custom", "weights/largest")],
    ),
}


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NANWATCH_MODE", "offline")
    monkeypatch.setattr("nanwatch.run._current", None)
    gc.collect()  # optimizers of tests before are found, too, as long as they live
    yield
    nanwatch.run.current().finish()
    for library in (tensorboard, wandb):
        library.mirror()()  # the function that ends it


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_example(name: str, tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    run = nanwatch.run.current()
    assert isinstance(run, nanwatch.Run) and run.observer.enabled
    run.finish()
    spool = only_spool(tmp_path / "data")
    found = points(spool)
    attempts, scopes, more = EXPECTED[name]
    for scope in scopes:
        assert len(found["train", "loss", scope, ""]) == attempts
        assert found["train", "grad_norm", scope, ""]
    for stage, kind, layer in more:
        assert found[stage, kind, "", layer], (stage, kind, layer)
    assert hello(spool).run.project == run.options.project != "default"
