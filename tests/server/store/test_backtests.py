"""A back-test reads from a process of its own, on every engine, while the store is open."""

from __future__ import annotations

import time

import numpy as np

from nanwatch_server.backtest.bench import Bench
from nanwatch_server.domain.models import ProjectRules
from tests.server.store.test_chunks import RUN, Run


def tried(bench: Bench, text: str) -> dict:
    """What came of it."""
    bench.start("p", text, 5, "test")
    end = time.monotonic() + 60
    while (job := bench.latest()) is None or job["state"] == "running":
        assert time.monotonic() < end, "it never ended"
        time.sleep(0.05)
    return job


def test_points_in_chunks_and_in_the_journal_are_judged_by_stored_and_by_tried_limits(place):
    run = Run(place.open())
    steps = np.arange(2_000)
    run.commit([1], steps, [np.linspace(3.0, 1.0, 2_000) + 0.01 * np.sin(steps)])
    run.compact()
    bad = np.where(np.arange(300) < 250, 1.0 + 0.01 * np.sin(np.arange(300)), np.nan)
    run.commit([1], np.arange(2_000, 2_300), [bad])
    bench = Bench(place.directory, place.database)
    try:
        job = tried(bench, "")
        assert (job["state"], job["error"]) == ("done", "")
        assert [one["id"] for one in job["runs"]] == [RUN]
        (found,) = job["runs"][0]["incidents"]
        assert (found["state"], found["onset_step"]) == ("new", 2_250)
        assert found["rules"] == ["nonfinite"] and job["runs"][0]["points"] == 2_300
        with run.store.write() as uow:
            every = ProjectRules(project="", text="[nonfinite]\nenabled = false", updated_at=1.0)
            uow.put_rules(every)
        assert tried(bench, "")["runs"][0]["incidents"] == []
        (again,) = tried(bench, "[nonfinite]\nenabled = true")["runs"][0]["incidents"]
        assert again["onset_step"] == 2_250
    finally:
        bench.close()
