"""Exceptions that end a training: news where they speak of NaN that was never measured."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Severity

ANOMALY = "exception: RuntimeError: Function 'MulBackward0' returned nan values in its 0th output."
POLICY = (
    "exception: ValueError: Expected parameter loc (Tensor of shape (8, 2)) of distribution "
    "Normal to satisfy the constraint Real(), but found invalid values:\ntensor([[nan, nan]])"
)


@pytest.mark.parametrize(
    "text", [ANOMALY, POLICY, "exception: ValueError: loss is not-finite: inf"]
)
def test_an_exception_of_nan_is_told(text: str) -> None:
    (found,) = RunDetector(RUN, {}).died(252, 1.0, text)
    assert (found.rule, found.severity, found.step) == ("nonfinite", Severity.CRITICAL, 252)
    assert found.title.startswith("Training died of NaN: ") and "exception: " not in found.message
    assert found.evidence[0].value in text


@pytest.mark.parametrize(
    "text",
    [
        "exception: KeyError: nan",
        "exception: ValueError: cannot read '/home/nan/data/train.bin'",
        "exception: FileNotFoundError: nan.pt",
        "exception: ValueError: infinite sampler needs num_samples",
        "exception: OverflowError: cannot convert float infinity to integer",
        "exception: RuntimeError: Caught ValueError in DataLoader worker.\n  x = np.nan",
        "exception: FileNotFoundError: no file info.txt",
        "exception: OutOfMemoryError: CUDA out of memory",
    ],
)
def test_other_exceptions_are_not(text: str) -> None:
    assert RunDetector(RUN, {}).died(252, 1.0, text) == []


def test_it_is_off_with_its_rule() -> None:
    off = RunDetector(RUN, {}, {"nonfinite": {"enabled": False}})
    assert off.died(252, 1.0, ANOMALY) == []


def test_the_event_of_a_log_is_an_exception_as_well() -> None:
    detector = RunDetector(RUN, {})
    text = "exception: RuntimeError: Function 'MulBackward0' returned nan values in its 0th output."
    (found,) = detector.mark("note", 252, {}, 1.0, text)
    assert found.rule == "nonfinite" and found.title.startswith(
        "Training died of NaN: Function 'Mul"
    )
    assert detector.mark("note", 252, {}, 1.0, "a note on NaN") == []
    assert detector.mark("note", 252, {}, 1.0, "exception: KeyError: 'x'") == []


def test_a_training_that_goes_on_is_given_the_all_clear() -> None:
    detector = RunDetector(RUN, {})
    detector.died(252, 1.0, ANOMALY)
    detector = RunDetector.restore(RUN, {}, detector.state())

    def block(step: int) -> Block:
        steps = np.array([step])
        return Block("", "train", steps, steps * 1.0, {"loss": np.ones(1)})

    assert detector.update(block(252)) == []  # its last points may come later
    (found,) = detector.update(block(253))
    assert found.cleared and (found.rule, found.kind) == ("nonfinite", "grad_norm")
    assert detector.update(block(254)) == []
