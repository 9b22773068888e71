"""What nanwatch measures costs no word between the ranks, also where they measure unevenly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from distributed.conftest import TORCHRUN

TALKING = Path(__file__).parent / "talking.py"


def communication(tmp_path: Path, mode: str) -> dict[int, dict[str, int]]:
    """Collectives by rank and name."""
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "2", str(TALKING), mode],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if "RESULT " in line]
    return dict(json.loads(line.partition("RESULT ")[2]) for line in lines)


def environment(tmp_path: Path) -> dict[str, str]:
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return kept | {"NANWATCH_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}


def test_the_same_collectives_with_and_without_us(tmp_path):
    without, ours = communication(tmp_path, "off"), communication(tmp_path, "offline")

    assert sorted(without) == sorted(ours) == [0, 1]
    assert without == ours
    assert all(sum(counts.values()) > 0 for counts in ours.values())  # the training did talk


def test_what_the_ranks_measured_they_measured_at_common_steps(tmp_path):
    """The ranks' own cadences differ; the steps of the one are among those of the other."""
    from array import array

    from nanwatch.contract.frames import Batch, Declare, Table, decode_client
    from nanwatch.link.box import boxes
    from nanwatch.link.spool import scan

    communication(tmp_path, "offline")
    steps: dict[int, list[int]] = {}
    for box in boxes(tmp_path / "data"):
        hello = box.hello()
        assert hello is not None
        parts: set[int] = set()
        for path in box.segments("scalars"):
            for _, _, _, payload in scan(path):
                frame = decode_client(payload)
                if isinstance(frame, Declare):
                    parts |= {s.id for s in frame.series if s.kind == "grad_norm_shard"}
                elif isinstance(frame, Batch):
                    for table in (r for r in frame.records if isinstance(r, Table)):
                        if parts & set(table.ids):
                            steps.setdefault(hello.rank, []).extend(array("q", table.steps))
    assert steps[0] == list(range(1, 13))
    assert steps[1] == [4, 8, 12]
