"""Numbers that are read when somebody asks for them."""

from __future__ import annotations

import sys
import threading

import torch

from nanwatch.probes.tensors import FEW, Numbers, read


def ask(numbers: Numbers, begin: threading.Barrier, failures: list[Exception]) -> None:
    begin.wait()
    try:
        assert numbers.get()[-1] == 1999.0
    except Exception as error:
        failures.append(error)


def test_many_numbers_on_the_host_are_here_and_any_thread_may_ask() -> None:
    """The probe of forensics and the background thread may want the same norms at once."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    failures: list[Exception] = []
    try:
        for _ in range(300):
            numbers = read(torch.arange(2000.0))
            assert numbers.here() and numbers.ready()
            given = (numbers, threading.Barrier(2), failures)
            threads = [threading.Thread(target=ask, args=given) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert numbers.here() and len(numbers.get()) == 2000
    finally:
        sys.setswitchinterval(before)
    assert not failures


def test_a_few_numbers_are_read_at_once() -> None:
    tensor = torch.arange(float(FEW))
    numbers = read(tensor)
    tensor.zero_()
    assert numbers.get()[-1] == FEW - 1
