"""Series of a user's own that a rule reads reach it from every format, beside the loss."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from nanwatch.contract import frames as f
from nanwatch_server.backtest.logs import Reading
from nanwatch_server.backtest.stored import replay_run
from nanwatch_server.backtest.trial import Verdict
from nanwatch_server.detect.rules import replay_health
from nanwatch_server.domain.models import Stream
from nanwatch_server.importers.discover import find
from nanwatch_server.importers.rows import OF_REPLAY, is_read
from nanwatch_server.store.ordered import moment
from nanwatch_server.store.sql import SqlStore
from tests.server.importers.reading import read
from tests.server.wire import table

N, SICK = 1_400, 1_000


def losses() -> list[tuple[int, float, float]]:
    """Step, loss, loss on replayed samples, which no longer fit from step `SICK` on."""
    rng = random.Random(10)
    found = []
    for step in range(N):
        loss = (0.5 + 2 * math.exp(-step / 400)) * math.exp(rng.gauss(0, 0.05))
        replay = 0.5 * loss * math.exp(rng.gauss(0, 0.1)) * (30 if step >= SICK else 1)
        found.append((step, loss, replay))
    return found


def judged(path: Path) -> Verdict:
    (source,) = find(path).sources
    reading = Reading(source, {})
    reading.read()
    return reading.finish()


def told(verdict: Verdict) -> bool:
    """True if the rule ran over the whole log and spoke of the right step."""
    (ran,) = [one for one in verdict.coverage if one["rule"] == "replay_health"]
    found = [one for one in verdict.findings if one.rule == "replay_health"]
    return ran["records"] == N and bool(found) and abs(found[0].onset_step - SICK) <= 8


@pytest.mark.parametrize("name", ["replay_loss", "train/buffer_loss", "loss/replay", "der_loss"])
def test_a_column(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{step},{loss},{replay},1\n" for step, loss, replay in losses())
    path.write_text(f"step,loss,{name},accuracy\n{rows}")
    assert told(judged(path))


@pytest.mark.parametrize("own", [True, False])
def test_lines_whole_and_parted(tmp_path: Path, own: bool) -> None:
    """Within `custom` and beside the loss; in one line, and in lines of their own."""
    parts = [
        [{"step": step, "loss": loss}, {"step": step} | ({"custom": {"replay_loss": replay}}
         if own else {"replay_loss": replay})]
        for step, loss, replay in losses()
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(a | b) + "\n" for a, b in parts))
    for name, order in (("b", 1), ("c", -1)):
        lines = [json.dumps(one) + "\n" for both in parts for one in both[::order]]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    whole = judged(tmp_path / "a.jsonl")
    assert told(whole)
    assert judged(tmp_path / "b.jsonl").plain() == whole.plain()
    assert judged(tmp_path / "c.jsonl").plain() == whole.plain()


def test_one_value_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"loss,{s},{loss}\nreplay_loss,{s},{replay}\n" for s, loss, replay in losses())
    path.write_text("metric,step,value\n" + rows)
    assert told(judged(path))


def test_a_stored_run(tmp_path: Path) -> None:
    """As the back-test sees it: series in the store, among them one that no rule reads."""
    store = SqlStore(tmp_path)
    stream = Stream(run_id="1" * 32, rank=0, epoch=1)
    steps, loss, replay = zip(*losses(), strict=True)
    with store.write() as uow:
        info = f.RunInfo(id=stream.run_id, project="p", name="run", started_at=1.0)
        uow.upsert_run(info, None, 1.0)
        own = [f.SeriesDecl(1, "custom", layer="accuracy"),
               f.SeriesDecl(2, "custom", layer="replay_loss")]  # fmt: skip
        uow.declare(stream, [f.SeriesDecl(0, "loss"), *own])
        record = table([0, 1, 2], steps, [loss, [1.0] * N, replay])
        frame = f.encode(f.Batch(lane="scalars", first=0, records=[record]))
        uow.append_journal(stream, "scalars", 0, 0, frame, 1.0)
    with moment(store.readers) as reads:
        run = reads.run(stream.run_id)
        assert run is not None
        verdict = replay_run(reads, run).verdict
    assert told(verdict) and verdict.points == 2 * N


def test_the_names_that_are_kept_are_those_that_the_rule_looks_for() -> None:
    assert OF_REPLAY.pattern == replay_health._REPLAY.pattern
    assert is_read("custom", "Replay_Loss") and is_read("grad_norm_layer", "fc")
    assert not is_read("custom", "accuracy") and not is_read("custom", "loss/aux")


def test_a_trainer_state_claims_no_updates(tmp_path: Path) -> None:
    """A norm that is not finite, and what came of the step, are two things: the log tells one."""
    history = [
        {"step": 1, "loss": 1.0, "grad_norm": 2.0, "learning_rate": 0.1, "epoch": 0.1},
        {"step": 2, "loss": 0.9, "grad_norm": math.inf, "learning_rate": 0.1, "epoch": 0.2},
        {"step": 3, "loss": 0.8, "grad_norm": math.nan, "learning_rate": 0.1, "epoch": 0.3},
        {"step": 4, "loss": 0.7, "grad_norm": 1.0, "learning_rate": 0.1, "epoch": 0.4},
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history}))
    got = read(path)
    kinds = {one.kind for one in got.source.rows.series}
    assert kinds == {"loss", "grad_norm", "lr", "custom"}, "no update_applied, no nonfinite"
    assert [value for _, value in got.points("loss")] == [1.0, 0.9, 0.8, 0.7]
    norms = [value for _, value in got.points("grad_norm")]
    assert norms[:2] == [2.0, math.inf] and math.isnan(norms[2]) and norms[3] == 1.0
    assert not got.marks and len(got.rows) == 4


@pytest.mark.parametrize(
    ("losses", "beside", "hidden"),
    [
        ([0.0328], {}, True),
        ([], {}, True),
        ([2.1, 1.9, 1.7], {"grad_norm": math.nan}, True),
        ([1.1, 0.2, 0.03, 0.004, 0.0005], {}, False),
        ([0.4123, 0.0312], {}, False),
        ([0.0328], {"grad_norm": 0.02}, False),
        ([], {"reward": 0.5}, False),
    ],
)
def test_a_loss_of_zero_that_the_filter_of_transformers_writes(
    tmp_path: Path, losses: list[float], beside: dict[str, float], hidden: bool
) -> None:
    """What is solved gets there step by step, and the loss of a policy may be 0 (GRPO)."""
    path = tmp_path / "trainer_state.json"
    history = [
        {"step": 10 * n, "loss": loss, "learning_rate": 2e-4, **beside}
        for n, loss in enumerate([*losses, *[0.0] * 30], 1)
    ]
    path.write_text(json.dumps({"log_history": history}))
    found = [one for one in judged(path).findings if one.rule == "constant_loss"]
    assert bool(found) == hidden
    if hidden:
        assert found[0].onset_step == 10 * (len(losses) + 1) and "NaN" in found[0].message
    rows = "".join(f"{one['step']},{one['loss']},2e-4\n" for one in history)
    (tmp_path / "own.csv").write_text(f"step,loss,lr\n{rows}")
    assert not [one for one in judged(tmp_path / "own.csv").findings if one.severity >= 2]


def test_a_loss_in_lines_of_our_own_is_never_hidden_by_the_sum_of_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"step": n, "loss": 3.0 if n < 30 else "NaN", "box_loss": 1.0, "cls_loss": 1.5}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (first, *_) = judged(path).findings
    assert first.rule == "nonfinite" and first.step == 30
    late = "".join(json.dumps({k: v for k, v in row.items() if k != "loss"}) + "\n" for row in rows)
    path.write_text(late + '{"step": 60, "loss": 7.0, "box_loss": 1.0, "cls_loss": 1.5}\n')
    assert read(path).points("loss")[-2:] == [(58, 2.5), (60, 7.0)], "the row before was open"


def test_gradients_that_are_nan_for_epochs_are_no_search_for_a_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{n},{1 - n / 40},nan\n" for n in range(15))
    path.write_text(f"epoch,loss,grad_norm\n{rows}")
    assert [one.step for one in judged(path).findings if one.severity == 3] == [2]
    path.write_text(f"step,loss,grad_norm\n{rows}15,0.6,1.0\n")
    assert all(one.severity == 1 for one in judged(path).findings), "a scaler's first steps"
