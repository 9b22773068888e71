"""Fixtures of the SDK tests: a private data directory, a guard that raises instead of counting."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nanwatch
from nanwatch.guard import GUARD, Guard
from nanwatch.run import Run
from sdk.watched import Watched


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NANWATCH_URL", "NANWATCH_TOKEN", "NANWATCH_MODE", "NANWATCH_LAUNCH_CONTROL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NANWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NANWATCH_AUTOSTART", "0")
    GUARD.clear()
    monkeypatch.setattr(Guard, "reraise", True)
    yield
    assert not GUARD.counts, f"internal errors were swallowed: {GUARD.counts}"


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    """Makes runs whose hooks are installed and whose background thread is not started."""
    runs: list[Run] = []
    gc.collect()  # models of the test before, which only cycles keep: they would be found

    def make(**options: Any) -> Watched:
        from nanwatch.config import resolve

        settings: dict[str, Any] = {
            "project": "test",
            "name": None,
            "config": None,
            "control": nanwatch.Control(lr=(1e-6, 10.0), checkpoint=True, stop=True),
            "server": None,
            "token": None,
            "mode": "offline",
        }
        run = Run(resolve(**{**settings, **options}, run_id="0" * 32), "0" * 32)
        run.hooks.install()
        runs.append(run)
        return Watched(run)

    yield make
    for run in runs:
        run.observer.enabled = False
        run.hooks.remove()


@pytest.fixture
def every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass of every probe is made at every attempt, whatever it costs."""
    from nanwatch.probes.overhead import Cadence

    monkeypatch.setattr(Cadence, "due", lambda cadence, *of: True)
