"""What nanwatch measures costs no word between the ranks, also where they measure unevenly."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

from nanwatch.contract.frames import Batch, Declare, Mark, Table, decode_client
from nanwatch.link.box import Box, boxes
from nanwatch.link.spool import scan


def communication(launch, folder: Path, mode: str) -> dict[int, dict[str, int]]:
    """Collectives by rank and name."""
    folder.mkdir()
    launch(
        None, "talking", mode, str(folder), ranks=2, NANWATCH_DATA_DIR=str(folder / "data")
    ).ended()
    return {rank: json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)}


def frames_of(box: Box):
    """Everything a rank kept on its disk."""
    for path in box.segments("scalars"):
        for _, _, _, payload in scan(path):
            yield decode_client(payload)


def test_the_same_collectives_with_and_without_us(launch, tmp_path):
    """Also with `guard="skip"`: what one rank of a sharded model would ask, it may ask alone."""
    without = communication(launch, tmp_path / "off", "off")
    ours = communication(launch, tmp_path / "offline", "offline")

    assert without == ours
    assert all(sum(counts.values()) > 0 for counts in ours.values())  # the training did talk
    kept = list(boxes(tmp_path / "offline" / "data"))
    assert len(kept) == 2
    for box in kept:
        measured_at_common_steps(box)


def measured_at_common_steps(box: Box) -> None:
    """The ranks' own cadences differ; the steps of the one are among those of the other."""
    hello = box.hello()
    assert hello is not None
    parts: set[int] = set()
    steps: list[int] = []
    guard = ""
    for frame in frames_of(box):
        if isinstance(frame, Declare):
            parts |= {s.id for s in frame.series if s.kind == "grad_norm_shard"}
        elif isinstance(frame, Batch):
            for one in frame.records:
                if isinstance(one, Table) and parts & set(one.ids):
                    steps.extend(array("q", one.steps))
                elif isinstance(one, Mark) and one.what == "coverage":
                    guard = one.data.get("guard", guard)
    assert steps == (list(range(1, 13)) if hello.rank == 0 else [4, 8, 12])
    assert "spread over the ranks" in guard
