"""Target 8: bytes a point on disk, steps and times included, for float32 metrics of a training.

Loss, a learning rate schedule, 50 gradient norms and update ratios per layer, all measured at each
attempt, travel in by the ingest socket; the server compacts them by itself and is stopped, which
checkpoints its write-ahead log. Judged is what the points take: every file of the data directory,
less the reserve for a full disk (16 MiB) and the free pages that the database keeps for the points
to come (until they are 64 MiB and a quarter of the file). Both are printed, and so is the file as
it lies. In the same run: TensorBoard's event files and the database of an MLflow server.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import peers
from common import closing_line, installed, versions
from service import Service, batch, service, upload

from nanwatch.contract import frames as f

TARGET_BYTES = 4.0
RESERVE = "ballast"
LAYERS = 50
ROWS = 512
"""Steps of one batch."""


def training(steps: int) -> tuple[list[f.SeriesDecl], np.ndarray]:
    """Series of a healthy training in float32, [series, steps]."""
    rng = np.random.default_rng(0)
    at = np.arange(steps)
    fall = 2.0 * (1 + at / 500) ** -0.4
    loss = fall * np.exp(rng.normal(0, 0.08, steps))
    warm = np.minimum(at / 1_000, 1.0)
    lr = 3e-4 * warm * 0.5 * (1 + np.cos(np.pi * at / steps))
    common = np.exp(rng.normal(0, 0.15, steps)) * fall
    base = np.exp(rng.normal(-2, 1, LAYERS))[:, None]
    norms = base * common * np.exp(rng.normal(0, 0.25, (LAYERS, steps)))
    drift = np.cumsum(rng.normal(0, 1e-3, (LAYERS, steps)), axis=1)
    updates = 1e-3 * warm * np.exp(drift + rng.normal(0, 0.1, (LAYERS, steps)))
    declared = [f.SeriesDecl(0, "loss"), f.SeriesDecl(1, "lr")]
    for kind in ("grad_norm_layer", "update_ratio_layer"):
        declared += [
            f.SeriesDecl(len(declared) + n, kind, "", f"layers.{n}.weight") for n in range(LAYERS)
        ]
    return declared, np.concatenate([loss[None], lr[None], norms, updates]).astype(np.float32)


def files(directory: Path) -> dict[str, int]:
    """Bytes of every file below `directory`."""
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def stored(server: Service, declared: list[f.SeriesDecl], values: np.ndarray) -> dict[str, int]:
    """Bytes of each file once the server has compacted everything and ended."""
    ids = [one.id for one in declared]
    frames = [
        batch(number, ids, at, values[:, at : at + ROWS])
        for number, at in enumerate(range(0, values.shape[1], ROWS))
    ]
    run_id = upload(server, "storage", declared, frames)
    server.wait_compacted(run_id)
    server.stop()
    return files(server.data_dir)


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps; fewer of the peers")
    quick = parser.parse_args().quick
    declared, values = training(20_480 if quick else 102_400)
    with service() as server:
        sizes = stored(server, declared, values)
        sizes["(free pages of the database)"] = -server.spare()
    used = sum(size for name, size in sizes.items() if name != RESERVE)
    value = used / values.size
    print(f"{'bytes a point, steps and times included':44}{'bytes':>10}{'points':>14}")
    print(f"{'nanwatch, what the points take':44}{value:10.2f}{values.size:14,}")
    lies = sizes["nanwatch.sqlite"] / values.size
    print(f"{'nanwatch, the file as it lies':44}{lies:10.2f}{values.size:14,}")
    for name, size in sizes.items():
        print(f"  {name:42}{size / values.size:10.3f}")
    some = values[:, : 1_000 if quick else 10_000]
    columns = {f"{one.kind}/{one.layer}": row for one, row in zip(declared, some, strict=True)}
    if installed("tensorboard"):
        with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
            size = peers.write_events(Path(directory) / "run", columns)
        print(f"{'TensorBoard event file':44}{size / some.size:10.2f}{some.size:14,}")
    else:
        print(f"{'TensorBoard event file':44}{'not installed':>14}")
    if peers.mlflow_python():
        with peers.mlflow() as server:
            before = server.database.stat().st_size
            server.fill(server.new_run(), columns)
            size = server.database.stat().st_size - before
        print(f"{'MLflow server, SQLite':44}{size / some.size:10.2f}{some.size:14,}")
    else:
        print(f"{'MLflow server, SQLite':44}{'not installed':>14}")
    closing_line(
        "storage_size",
        value,
        "bytes/point",
        TARGET_BYTES,
        versions={
            **versions("nanwatch", "pcodec", "sqlalchemy", "tensorboard"),
            "mlflow": peers.mlflow_version(),
        },
    )


if __name__ == "__main__":
    main()
