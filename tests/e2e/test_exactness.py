"""Nothing lost, nothing doubled, nothing hidden: through a killed server to the drawn chart."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import TRAININGS, Server, Train, eventually

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]


def test_nan_is_drawn_not_dropped(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    training = train(str(TRAININGS / "metrics.py"), "400", "200", "100", "150")
    run = server.run_id()
    assert training.wait(120) == 0
    steps, values = eventually(
        lambda: (p := server.points(run, "custom", "awkward"))[0][-1:] == [400] and p,
        60,
        "last point",
    )
    assert steps == list(range(1, 401))
    for step, value in enumerate(values):
        if step == 125:
            assert value == 3.0
        elif 100 <= step < 150:
            assert math.isnan(value)
        elif step in (155, 156):
            assert value == (math.inf if step == 155 else -math.inf)
        else:
            assert value == float(step % 7)

    page = open_page(f"/r/{run}")
    chart = page.locator("figure", has_text="awkward").first
    chart.scroll_into_view_if_needed()
    marks = chart.get_by_test_id("nonfinite-mark")
    expect(marks.first).to_be_visible()
    counts: dict[str, int] = {}
    for mark in marks.all():
        kind = mark.get_attribute("data-kind") or ""
        counts[kind] = counts.get(kind, 0) + int(mark.get_attribute("data-count") or 0)
    assert sorted(counts.values()) == [1, 1, 49], counts
    # The rails are ours and stand before Plotly has drawn: wait for the drawing itself.
    expect(chart.locator("svg.main-svg").first).to_be_visible()
    eventually(
        lambda: (
            [126, 3]
            in chart.evaluate(
                """figure => (figure.querySelector('.js-plotly-plot')?.data ?? [])
                 .flatMap(trace => Array.from(trace.x ?? [], (x, i) => [x, trace.y[i]]))"""
            )
        ),
        60,
        "finite point between NaNs in the chart",
    )
    keep(page, "awkward")


def test_killed_and_restarted_server_loses_and_doubles_nothing(
    server: Server, train: Train, open_page: OpenPage, keep: Keep, tmp_path: Path
) -> None:
    back = tmp_path / "back"  # a training that is over uploads no more
    training = train(str(TRAININGS / "metrics.py"), "900", "60", "--until", str(back))
    run = server.run_id()
    page = open_page(f"/r/{run}")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    eventually(lambda: len(server.points(run, "custom", "answer")[0]) > 100, 60, "100 points")
    server.kill()
    expect(page.get_by_test_id("lost-banner")).to_be_visible()
    expect(page.get_by_test_id("lost-banner")).to_contain_text(re.compile("Not live"))
    keep(page, "lost")
    time.sleep(3)
    again = Server(server.data_dir, server.port)
    try:
        expect(page.get_by_test_id("lost-banner")).to_have_count(0, timeout=40_000)
        again.kill()
        time.sleep(1)
    finally:
        again.stop()
    last = Server(server.data_dir, server.port)
    back.touch()
    try:
        assert training.wait(120) == 0, "the training never noticed"
        steps, values = eventually(
            lambda: (p := last.points(run, "custom", "answer"))[0][-1:] == [900] and p,
            90,
            "last point",
        )
        assert steps == list(range(1, 901))
        assert values == [float(n) for n in range(900)]
        loss_steps, _ = last.points(run, "loss")
        assert loss_steps == list(range(1, 901))
        detail = last.client.get(f"/api/runs/{run}")
        assert detail["beat"]["dropped"] == {}
        assert detail["status"] == "ended"
    finally:
        last.stop()
