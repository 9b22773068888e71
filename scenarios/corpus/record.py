"""Runs programs of the corpus with the real SDK, off-line, and keeps their traces.

    python -m scenarios.corpus.record [NAME…] [--seeds N] [--jobs 2] [--into FOLDER] [--half H]

Each (program, seed) is a child forked from a process that has imported torch. Its link stays
off-line, so all it records is in the spool, where this process reads it. A program that raises is
recorded with its exception: a crash is data.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from nanwatch.contract.frames import Mark, Table
from nanwatch.link.box import Box, boxes
from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points
from nanwatch_server.store.replay import points_of
from scenarios.corpus import traces
from scenarios.corpus.about import About
from scenarios.corpus.traces import Trace

PROGRAMS = Path(__file__).parent / "programs"
CPU_LIMIT_S = 60
WALL_LIMIT_S = 900.0
"""Generous: the machine may be busy with other things."""

NORMS_LEAST_S = 1e-3
"""What gradient norms may take of an attempt. These programs stand for trainings whose steps take
0.1 s and more, where the budget (half of 1 %) measures norms at every attempt; 100 µs of a 1 ms
step would not."""

PRIVATE = frozenset({"host", "pid", "script", "python"})
"""Facts of the machine, which no trace keeps."""


@dataclass
class Job:
    """One run that is to be recorded."""

    name: str
    seed: int
    directory: Path
    started: float = 0.0
    process: BaseProcess | None = None


@dataclass
class Program:
    """What is known of a program while it is recorded."""

    about: About
    seeds: int
    traces: list[Trace] = field(default_factory=list)


def programs() -> list[str]:
    """Names of all programs."""
    return sorted(path.stem for path in PROGRAMS.glob("*.py") if not path.stem.startswith("_"))


def about(name: str) -> About:
    """What the program says of itself (imports it)."""
    return importlib.import_module(f"scenarios.corpus.programs.{name}").ABOUT


def _warm_up() -> None:
    """What torch imports at the first step of an optimizer (seconds) is done once for all
    children. No backward: its threads would not survive the fork."""
    import torch

    weights = torch.nn.Parameter(torch.zeros(1))
    weights.grad = torch.zeros(1)
    torch.optim.Adam([weights]).step()
    gc.collect()
    gc.freeze()


# --- the child -----------------------------------------------------------------------------------


def _environment(directory: Path) -> dict[str, str]:
    """The SDK off-line, and nothing of what the user has set for it."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("NANWATCH_")}
    return own | {
        "NANWATCH_MODE": "offline",
        "NANWATCH_AUTOSTART": "0",
        "NANWATCH_DATA_DIR": str(directory),
        "OMP_NUM_THREADS": "1",
    }


def _train(name: str, seed: int, directory: Path) -> None:
    """Run the program to its end; how it ended stands in the spool, what it printed in `output`."""
    environment = _environment(directory)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(directory / "output", os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    import torch

    from nanwatch import run
    from nanwatch.probes import observer

    torch.set_num_threads(1)
    # The SDK thins out its series to keep to its budget of time; counted in this thread's CPU
    # time, other work on the machine cannot change what is recorded.
    time.perf_counter = time.thread_time
    observer.Overhead = partial(observer.Overhead, time.thread_time)
    observer.BUDGET_LEAST_S = NORMS_LEAST_S
    program = importlib.import_module(f"scenarios.corpus.programs.{name}")
    try:
        program.train(seed)
    except Exception as error:
        traceback.print_exc()
        run.current().failed(error)
    run.current().finish()
    sys.stdout.flush()
    sys.stderr.flush()


# --- from the spool to a trace -------------------------------------------------------------------


def trace_of(box: Box, name: str, seed: int, about: About) -> Trace:
    """What the run left in its spool. Raises `ValueError` if it says nothing of itself."""
    hello = box.hello()
    if hello is None:
        raise ValueError(f"{name} seed {seed}: expected a hello in the spool, found none")
    end = box.end()
    ending = "killed" if end is None else "" if end.reason == "finished" else end.reason
    known: dict[int, Series] = {}
    parts: list[Points | Mark] = []
    for record, declared in box.records("scalars"):
        if isinstance(record, Mark):
            parts.append(record)
        elif isinstance(record, Table):
            for number in record.ids:
                if number not in known:
                    one = declared[number]
                    known[number] = Series(
                        id=number,
                        run_id=traces.run_id_of(name, seed),
                        rank=0,
                        stage=one.stage,
                        scope=one.scope,
                        kind=one.kind,
                        layer=one.layer,
                    )
            parts.append(points_of(record, known))
    facts = {key: value for key, value in hello.run.facts.items() if key not in PRIVATE}
    facts |= hello.run.config
    return Trace(name, seed, about, facts, ending, traces.kept(parts))


def first_nonfinite(trace: Trace) -> int | None:
    """First attempt with a loss, norm or other measured value that is not finite."""
    steps = [
        int(points.steps[column])
        for points in trace.tables
        if (column := _first(points)) is not None
    ]
    return min(steps, default=None)


def _first(points: Points) -> int | None:
    bad = ~np.isfinite(points.values).all(axis=0)
    return int(bad.argmax()) if bad.any() else None


def attempts(trace: Trace) -> int:
    """Attempts of the longest scope."""
    counts: dict[str, int] = {}
    for points in trace.tables:
        if any(one.kind == "update_applied" for one in points.series):
            scope = points.series[0].scope
            counts[scope] = counts.get(scope, 0) + len(points.steps)
    return max(counts.values(), default=0)


# --- the parent ----------------------------------------------------------------------------------


def _run(jobs: list[Job], at_once: int) -> Iterator[Job]:
    """Run the jobs, a few at a time; gives each back when its process has ended."""
    fork = multiprocessing.get_context("fork")
    waiting, running = jobs[::-1], list[Job]()
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop()
            job.directory.mkdir()
            job.process = fork.Process(target=_train, args=(job.name, job.seed, job.directory))
            job.started = time.monotonic()
            job.process.start()
            running.append(job)
        connection.wait([job.process.sentinel for job in running if job.process], timeout=1.0)
        for job in list(running):
            assert job.process is not None
            if time.monotonic() - job.started > WALL_LIMIT_S:
                job.process.kill()
                job.process.join()
            if not job.process.is_alive():
                running.remove(job)
                yield job


def _recorded(job: Job, about: About) -> Trace:
    """The trace of a run that has ended. Raises `RuntimeError` if it was never watched."""
    found = boxes(job.directory)
    if len(found) != 1:
        output = (job.directory / "output").read_text(errors="replace")[-2000:]
        raise RuntimeError(
            f"{job.name} seed {job.seed}: expected one watched run (one nanwatch.init in train), "
            f"got {len(found)}. It printed:\n{output}"
        )
    return trace_of(found[0], job.name, job.seed, about)


def record(
    names: Sequence[str],
    seeds: int | None,
    at_once: int,
    into: Path = traces.HERE,
    half: traces.Half | None = None,
) -> int:
    """Record programs and print a line a run; returns how many could not be recorded."""
    known = {name: Program(about(name), 0) for name in names}
    failed = 0
    _warm_up()
    print(
        f"{'program':<34} {'seed':>4} {'attempts':>8} {'first bad':>9} {'s':>6} {'bytes':>9}"
        "  ending",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="nanwatch-corpus-") as directory:
        jobs: list[Job] = []
        for name, program in known.items():
            program.seeds = program.about.seeds if seeds is None else seeds
            jobs += [
                Job(name, seed, Path(directory) / f"{name}-{seed}") for seed in range(program.seeds)
            ]
        for job in _run(jobs, at_once):
            program = known[job.name]
            try:
                trace = _recorded(job, program.about)
            except (RuntimeError, ValueError) as error:
                print(error, flush=True)
                failed += 1
                continue
            program.traces.append(trace)
            size = ""
            if len(program.traces) == program.seeds:
                size = f"{traces.save(job.name, program.about, program.traces, into):,}"
                if into == traces.HERE:
                    traces.assign(job.name, program.about, half)
            bad = first_nonfinite(trace)
            print(
                f"{job.name:<34} {job.seed:>4} {attempts(trace):>8} "
                f"{'-' if bad is None else bad:>9} {time.monotonic() - job.started:>6.1f} "
                f"{size:>9}  {trace.ending.splitlines()[0][:60] if trace.ending else ''}",
                flush=True,
            )
    gc.unfreeze()
    return failed


def main() -> int:
    """Record what the command line names, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs; all without any")
    parser.add_argument("--seeds", type=int, help="runs a program, instead of what it says itself")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default 2)")
    parser.add_argument("--into", type=Path, default=traces.HERE, help="folder for the traces")
    parser.add_argument(
        "--half", choices=traces.HALVES, help="half for new programs (default: by the rule)"
    )
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(programs()))
    if unknown:
        parser.error(f"no program is called {', '.join(unknown)}; see {PROGRAMS.name}/")
    os.environ.update(_environment(Path(tempfile.gettempdir())))  # also while programs are imported
    names = given.names or programs()
    return 1 if record(names, given.seeds, given.jobs, given.into, given.half) else 0


if __name__ == "__main__":
    sys.exit(main())
