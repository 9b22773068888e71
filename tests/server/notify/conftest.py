"""Receivers and couriers for the tests of notifications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nanwatch_server.notify.channels import Couriers
from tests.server.notify import kit


@pytest.fixture
def hook() -> Iterator[kit.Receiver]:
    """An HTTP receiver."""
    with kit.receiver() as made:
        yield made


@pytest.fixture(scope="module")
def couriers() -> Iterator[Couriers]:
    """May send to this machine."""
    made = Couriers(allow_local=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def strict() -> Iterator[Couriers]:
    """May not."""
    made = Couriers(allow_local=False)
    yield made
    made.close()
