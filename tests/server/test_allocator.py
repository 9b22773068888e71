"""Memory that is kept is not asked for again: counted in page faults of a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys, threading
import numpy as np
from nanwatch_server.allocator import keep_pages

if sys.argv[1] == "kept":
    assert keep_pages()
faults = []

def round_of_a_chart():
    parts = [np.ones(8_000) for _ in range(60)]
    return sum(part[-1] for part in parts)

def work():
    for _ in range(10):
        round_of_a_chart()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(50):
        round_of_a_chart()
    faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(faults[0])
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such knob")
def test_pages_that_were_freed_are_used_again() -> None:
    assert faults("kept") < 0.2 * faults("plain")
