"""Stored runs through other limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.backtest.stored import last_runs, plain, replay_run, replay_runs, sentence
from nanwatch_server.backtest.trial import Trial
from nanwatch_server.domain.models import Series, Stream
from nanwatch_server.domain.points import Points
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.ordered import moment
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from tests.server.wire import table

N = 1_500


def values(sick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient norm; of a sick run the norm grows from step 800 on."""
    rng = np.random.default_rng(3)
    steps = np.arange(N)
    growth = np.where(sick & (steps > 800), 1.02 ** (steps - 800.0), 1.0)
    return 0.5 + 2 * np.exp(-steps / 500), growth * np.exp(rng.normal(0, 0.1, N))


def stored(store: SqlStore, number: int, sick: bool, compacted: bool) -> str:
    """A run whose norm was measured at every fourth step only, in a table of its own rank."""
    run_id = f"{number:032x}"
    stream = Stream(run_id=run_id, rank=0, epoch=1)
    loss, norm = values(sick)
    with store.write() as uow:
        info = f.RunInfo(id=run_id, project="p", name=f"run{number}", started_at=1.0)
        uow.upsert_run(info, None, 1.0)
        decls = [f.SeriesDecl(0, "loss"), f.SeriesDecl(1, "grad_norm"), f.SeriesDecl(2, "custom")]
        uow.declare(stream, decls)
        for seq, low in enumerate(range(0, N, 4)):
            rest = table([0, 2], range(low + 1, low + 4), [loss[low + 1 : low + 4]] * 2)
            first = table([0, 1], [low], [loss[[low]], norm[[low]]])
            frame = f.encode(f.Batch(lane="scalars", first=2 * seq, records=[first, rest]))
            uow.append_journal(stream, "scalars", 2 * seq, 2 * seq + 1, frame, 1.0)
    if compacted:
        compact(store, (history := History(store.readers)), Tail(store, history), run_id, 1 << 60)
    return run_id


def live(sick: bool) -> dict:
    """What the pipeline's blocks give: records as they came."""
    loss, norm = values(sick)
    a, b = (
        Series(id=i, run_id="", rank=0, stage="train", scope="", kind=kind, layer="")
        for i, kind in enumerate(("loss", "grad_norm"))
    )
    trial = Trial({})
    for low in range(0, N, 4):
        one, three = np.arange(low, low + 1), np.arange(low + 1, low + 4)
        trial.window(
            [
                Points((a, b), one, one * 0.1 + 1000.0, np.array([loss[one], norm[one]])),
                Points((a,), three, three * 0.1 + 1000.0, loss[None, three]),
            ]
        )
    return trial.verdict().plain()


def test_from_chunks_and_journal_as_it_came(store: SqlStore) -> None:
    for number, compacted in enumerate((False, True)):
        run_id = stored(store, number, True, compacted)
        with moment(store.readers) as reads:
            run = reads.run(run_id)
            assert run is not None
            found = replay_run(reads, run)
        assert found.verdict.plain() == live(True)
        assert found.fired and not found.dropped and not found.before


def test_other_limits_on_the_last_runs(store: SqlStore, tmp_path: Path) -> None:
    for number, sick in enumerate((True, False, True, False)):
        stored(store, number, sick, number % 2 == 0)
    with moment(store.readers) as reads:
        runs = last_runs(reads, "p", 3)
        assert [run.name for run in runs] == ["run3", "run2", "run1"]
        found = list(replay_runs(reads, runs))
        assert sentence(found) == "would have fired 1× on the last 3 runs, in 1 of them"
        assert (plain(found)["fired"], plain(found)["of"]) == (1, 3)
        off = {"grad_explosion": {"enabled": False}}
        off |= {
            name: {"enabled": False} for name in ("grad_level", "grad_spike", "vanishing_gradient")
        }
        assert (
            sentence(list(replay_runs(reads, runs, off)))
            == "would have fired 0× on the last 3 runs"
        )
        assert not last_runs(reads, "other", 3)
