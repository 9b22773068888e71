"""Throughput, memory, waiting for data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, dataloader

from nanwatch.probes.system import System, resident_mib
from sdk.watched import Watched

Make = Callable[..., Watched]

PLAIN_NEXT = dataloader._BaseDataLoaderIter.__next__


class Slow(Dataset[torch.Tensor]):
    """Every sample takes a while."""

    def __init__(self, sleep_s: float) -> None:
        self.sleep_s = sleep_s

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(self.sleep_s)
        return torch.ones(4) * index


def make() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    model = torch.nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), 1e-3)


def train(model: torch.nn.Linear, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def system_of(seen: Watched) -> System:
    (found,) = [p for p in seen.run.observer.probes.active if isinstance(p, System)]
    return found


def test_the_wait_is_the_time_inside_next_of_the_loader(watched: Make) -> None:
    seen = watched()
    model, optimizer = make()
    waits = []
    loader = iter(DataLoader(Slow(0.02), batch_size=2))
    for _ in range(3):
        started = time.perf_counter()
        x = next(loader)
        waits.append(time.perf_counter() - started)
        train(model, optimizer, x)
    series = seen.read().series("data_time")
    assert [step for step, _ in series] == [1, 2, 3]
    for (_, value), wait in zip(series, waits, strict=True):
        assert 0.04 <= value <= wait


def test_the_end_of_the_data_and_the_users_errors_pass_through(watched: Make) -> None:
    watched()

    class Broken(Slow):
        def __getitem__(self, index: int) -> torch.Tensor:
            raise KeyError("of the user")

    assert len(list(DataLoader(Slow(0.0), batch_size=4))) == 2
    with pytest.raises(KeyError, match="of the user"):
        next(iter(DataLoader(Broken(0.0), batch_size=4)))
    assert len(list(DataLoader(Slow(0.0), batch_size=3, num_workers=1))) == 2


def test_validation_is_not_waited_for_and_no_loader_gives_no_series(watched: Make) -> None:
    seen = watched()
    model, optimizer = make()
    for _ in range(2):
        train(model, optimizer, torch.ones(2, 4))
        with torch.no_grad():
            assert len(list(DataLoader(Slow(0.0)))) == 6
    assert not seen.read().values("data_time")


def test_loaders_inside_loaders_are_counted_once(watched: Make) -> None:
    seen = watched()
    model, optimizer = make()

    class Nested(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> torch.Tensor:
            return next(iter(DataLoader(Slow(0.03))))

    started = time.perf_counter()
    (x,) = list(DataLoader(Nested()))
    elapsed_s = time.perf_counter() - started
    train(model, optimizer, x[0])
    assert 0.03 <= seen.read().values("data_time")[0] <= elapsed_s


def test_torch_is_as_before_when_the_run_ends(watched: Make) -> None:
    seen = watched()
    assert dataloader._BaseDataLoaderIter.__next__ is not PLAIN_NEXT
    seen.run.hooks.remove()
    assert dataloader._BaseDataLoaderIter.__next__ is PLAIN_NEXT
    assert not seen.run.recorder.samplers


def test_memory_at_once_and_throughput_from_the_second_sample(
    watched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanwatch.probes import system

    now = [100.0]
    monkeypatch.setattr(system.time, "monotonic", lambda: now[0])
    seen = watched()
    model, optimizer = make()
    assert not seen.read().values("memory")  # nothing trains yet
    train(model, optimizer, torch.ones(2, 4))
    seen.read()
    for _ in range(20):
        train(model, optimizer, torch.ones(2, 4))
    seen.read()  # too soon
    now[0] += 10.0
    seen.read()
    now[0] += 10.0
    seen.read()  # nothing was trained since
    assert seen.series("throughput") == [(21, 2.0)]
    memory = seen.series("memory")
    assert [step for step, _ in memory] == [1, 21]
    resident = resident_mib()
    assert resident is not None and memory[-1][1] == pytest.approx(resident, rel=0.2)
    assert not seen.values("gpu_memory")
    assert system_of(seen).coverage() == "every 5 s"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_resident_memory_is_what_the_kernel_says() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    assert resident_mib() == pytest.approx(kib / 1024, rel=0.05)


def test_a_sampler_that_fails_stops_nothing(watched: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanwatch.guard import GUARD, Guard

    seen = watched()

    def broken() -> None:
        raise OSError("driver")

    monkeypatch.setattr(Guard, "reraise", False)
    seen.run.recorder.samplers.insert(0, broken)
    model, optimizer = make()
    train(model, optimizer, torch.ones(2, 4))
    assert seen.read().values("loss") and seen.values("memory")
    assert GUARD.counts == {"sampler:OSError": 1}
    GUARD.clear()
