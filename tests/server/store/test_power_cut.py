"""A power cut: the disk as it is at one moment, mounted again. What was acked is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.verify import verify
from tests.server.store.compacting import STREAM

ROOT = Path(__file__).parents[3]
CUTS = 3


@contextmanager
def mounted(image, place):
    place.mkdir()
    if subprocess.run(
        ["mount", "-o", "loop", str(image), str(place)], capture_output=True
    ).returncode:
        pytest.skip("a loop image cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_was_acked_survives_a_power_cut(tmp_path):
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    said = tmp_path / "said"
    with mounted(image, tmp_path / "disk") as disk, said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.server.store.compacting", str(disk / "data"), ""],
            stdout=out,
            cwd=ROOT,
        )
        try:
            cuts = []
            for number in range(CUTS):
                until = time.monotonic() + 10
                while len(said.read_text().split()) < 20 * (number + 1):
                    assert time.monotonic() < until, "it does not write"
                    time.sleep(0.01)
                process.send_signal(signal.SIGSTOP)
                acked = int([one for one in said.read_text().split("\n")[:-1] if one.isdigit()][-1])
                copy = tmp_path / f"cut{number}.img"
                shutil.copyfile(image, copy)  # what the page cache holds is not in it
                process.send_signal(signal.SIGCONT)
                cuts.append((copy, acked))
        finally:
            process.kill()
            process.wait()
    for number, (copy, acked) in enumerate(cuts):
        with mounted(copy, tmp_path / f"after{number}") as disk:
            store = SqlStore(disk / "data")
            try:
                assert store.high_water(STREAM, "scalars") >= acked
                assert verify(store.readers).problems == []
            finally:
                store.close()
