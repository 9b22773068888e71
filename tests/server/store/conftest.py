"""The tests of the store run on every engine: `place` is where a test's database lies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from nanwatch_server.store.sql import FILE_NAME, SqlStore
from tests.server.store.postgres import TROUBLE, Cluster, programs, required


class Place:
    """A data directory with, or beside, an empty migrated database. Knows every store it opened."""

    def __init__(self, engine: str, directory: Path, cluster: Any = None) -> None:
        self.engine, self.directory = engine, directory
        self.cluster: Cluster = cluster
        self.name = cluster.database() if cluster else ""
        self.database = cluster.address(self.name) if cluster else ""
        self.spoiled = False
        """True if the tables are not what they were."""
        self.gone = False
        self._opened: list[SqlStore] = []

    def open(self) -> SqlStore:
        """A store on it. Others must be closed."""
        self._opened.append(SqlStore(self.directory, self.database))
        return self._opened[-1]

    def close(self) -> None:
        """Close what is open; a store that is closed already does not mind."""
        for store in self._opened:
            store.close()

    def done(self) -> None:
        """Closed, and what was stored taken away; a second time does nothing."""
        if self.gone:
            return
        self.gone = True
        self.close()
        if self.engine == "sqlite":
            shutil.rmtree(self.directory)
        elif not self.spoiled:
            self.cluster.take_back(self.name)

    def execute(self, *statements: str) -> None:
        """Behind the store's back."""
        address = self.database.replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(address or f"sqlite:///{self.directory / FILE_NAME}")
        with engine.begin() as db:
            for statement in statements:
                db.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server with one migrated, empty database named `template`."""
    found = programs()
    if found is None:
        if required():
            pytest.fail(TROUBLE)
        pytest.skip(TROUBLE)
    made = Cluster(found)
    try:
        made.execute("CREATE DATABASE template")
        scratch = made.directory / "scratch"
        SqlStore(scratch, made.address("template")).close()
        yield made
    finally:
        made.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Name of the database engine."""
    if request.param == "postgresql":
        request.getfixturevalue("cluster")
    return request.param


@pytest.fixture
def new_place(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Makes places, all closed at the end."""
    made: list[Place] = []

    def make() -> Place:
        directory = tmp_path_factory.mktemp("place") / "data"
        if engine == "sqlite":
            shutil.copytree(request.getfixturevalue("template"), directory)
            made.append(Place(engine, directory))
        else:
            made.append(Place(engine, directory, request.getfixturevalue("cluster")))
        return made[-1]

    yield make
    for place in made:
        place.done()


@pytest.fixture
def place(new_place: Any) -> Place:
    """The test's own."""
    return new_place()


@pytest.fixture
def store(place: Place) -> SqlStore:
    """A real store in its own place."""
    return place.open()
