"""Other ranks are heard where their numbers went bad first, and a combined norm meets its rules."""

from __future__ import annotations

import numpy as np
import pytest

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import Severity

FACTS = {"world_size": "4"}


def block(steps, late=False, **scalars) -> Block:
    steps = np.asarray(steps, np.int64)
    values = {
        k: np.broadcast_to(np.asarray(v, float), len(steps)).copy() for k, v in scalars.items()
    }
    return Block("", "train", steps, steps * 1.0, values, late=late)


def healthy(begin, end, loss=1.0) -> Block:
    return block(range(begin, end), loss=loss, grad_norm=1.0, update_applied=1.0)


def bad(step, **values) -> Block:
    return block([step], **({"loss": 1.0, "grad_norm": 1.0, "update_applied": 1.0} | values))


def test_healthy_ranks_leave_no_trace():
    detector = RunDetector("r", FACTS)
    for rank in range(1, 512):
        assert detector.ranks.other(rank, healthy(1, 100)) == []
    assert detector.ranks._rules == {}


@pytest.mark.parametrize("rank_first", [True, False])
def test_the_earliest_rank_is_named_whoever_is_heard_first(rank_first):
    detector = RunDetector("r", FACTS)
    detector.update(healthy(1, 50))
    zero, two = bad(50, grad_norm=np.nan), bad(50, loss=np.nan, grad_norm=np.nan)
    found = []
    if rank_first:
        found += detector.ranks.other(2, two)
    found += detector.update(zero)
    if not rank_first:
        found += detector.ranks.other(2, two)
    found += detector.ranks.other(3, bad(51, loss=np.nan))  # later: no news
    assert {(f.rank, f.kind) for f in found} >= {(2, "loss"), (0, "grad_norm")}
    assert 3 not in {f.rank for f in found}
    said = diagnose(found, FACTS)
    assert said.what.startswith("Rank 2 of 4 was first: its loss was not finite at step 50.")
    assert len({f.id for f in found}) == len(found)


def test_gradients_alone_name_nobody():
    detector = RunDetector("r", FACTS)
    found = detector.ranks.other(1, bad(50, grad_norm=np.nan))
    found += detector.update(bad(50, grad_norm=np.nan))
    assert "cannot be told" in diagnose(found, FACTS).what


def test_many_ranks_at_once_make_few_findings():
    detector = RunDetector("r", {"world_size": "512"})
    found = [f for rank in range(1, 512) for f in detector.ranks.other(rank, bad(9, loss=np.nan))]
    assert len(found) == 4
    assert "Several ranks at once (1, 2, 3, 4)" in diagnose(found, {"world_size": "512"}).what


def test_a_skipped_update_of_another_rank_is_no_alarm():
    detector = RunDetector("r", FACTS)
    skipped = bad(5, grad_norm=np.inf, update_applied=0.0, skip_reason=1.0)
    assert detector.ranks.other(1, skipped) == []


def test_a_rank_that_recovers_says_so_once():
    detector = RunDetector("r", FACTS)
    (found,) = detector.ranks.other(1, bad(9, loss=np.nan))
    cleared = detector.ranks.other(1, healthy(10, 400))
    assert [(f.rank, f.cleared) for f in (found, *cleared)] == [(1, False), (1, True)]
    assert detector.ranks.other(1, healthy(400, 900)) == []


def explosion(begin, end) -> tuple[Block, Block]:
    """Rank 0's attempts, and the norms of the whole run that come after them."""
    steps = np.arange(begin, end)
    norm = (1 + 0.1 * np.sin(steps * 1.7)) * 2.0 ** (np.maximum(steps - 400, 0) / 6)
    own = block(steps, loss=1.0, grad_norm_shard=norm / 2, clip_threshold=1.0, update_applied=1.0)
    return own, block(steps, late=True, grad_norm=norm)


@pytest.mark.parametrize("size", [1, 7, 600])
def test_combined_norms_are_judged_like_those_of_one_process(size):
    detector, found = RunDetector("r", FACTS), []
    for begin in range(1, 600, size):
        for part in explosion(begin, min(begin + size, 600)):
            found += detector.update(part)
    single = RunDetector("r", {})
    own, whole = explosion(1, 600)
    merged = block(own.steps, **{k: v for k, v in own.scalars.items() if "shard" not in k},
                   grad_norm=whole.scalars["grad_norm"])  # fmt: skip
    expected = single.update(merged)
    assert any(f.rule == "grad_explosion" and f.severity >= Severity.WARNING for f in expected)
    assert sorted(f.id for f in found) == sorted(f.id for f in expected)


def test_nothing_is_counted_twice_because_norms_come_late():
    detector = RunDetector("r", FACTS)
    own, whole = explosion(1, 100)
    detector.update(own)
    detector.update(whole)
    counts = {(e["rule"]): e["records"] for e in detector.coverage() if e["ran"]}
    assert counts["loss_divergence"] == counts["skip_streak"] == 99
    assert counts["grad_explosion"] == 99


def test_what_the_ranks_said_survives_a_restart():
    detector = RunDetector("r", FACTS)
    detector.update(explosion(1, 100)[0])
    detector.ranks.other(1, bad(9, loss=np.nan))
    again = RunDetector.restore("r", FACTS, detector.state())
    assert again.ranks.dump() == detector.ranks.dump()
    assert again.ranks.other(2, bad(11, loss=np.nan)) == []
    assert [f.rank for f in again.ranks.other(3, bad(8, loss=np.nan))] == [3]
    late = again.ranks.completed(block([50], late=True, grad_norm=2.0))
    assert late.scalars.keys() >= {"loss", "clip_threshold", "update_applied"}
