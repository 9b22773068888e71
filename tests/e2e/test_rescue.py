"""The journeys that the product exists for: seen going wrong, warned about, saved by a click."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import ROOT, TRAININGS, Server, Train, eventually

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]


def rates(path: Path) -> list[float]:
    """Learning rates Adam used so far."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sac_is_rescued_by_a_click(
    server: Server, train: Train, open_page: OpenPage, keep: Keep, tmp_path: Path
) -> None:
    page = open_page()
    expect(page.get_by_text("nanwatch.init(")).to_be_visible()

    used = tmp_path / "rates.jsonl"
    scenario = str(ROOT / "scenarios" / "sac.py")
    training = train(str(TRAININGS / "spy.py"), str(used), scenario, "--steps-per-second", "30")
    run = server.run_id()
    tile = page.get_by_test_id(f"tile-{run}")
    expect(tile).to_be_visible()
    severity = tile.get_by_test_id("tile-severity")
    expect(severity).to_have_attribute(
        "data-severity", re.compile("warning|critical"), timeout=60_000
    )
    expect(page).to_have_title(re.compile(r"^\(1"))
    keep(page, "wall")

    tile.click()
    banner = page.get_by_test_id("incident-banner")
    expect(banner).to_be_visible()
    expect(page.get_by_test_id("incident-why")).to_contain_text("reward")
    expect(page.get_by_test_id("suggestion").first).to_contain_text("treats cause")
    expect(page.get_by_test_id("chart-grad-norm").locator("svg.main-svg").first).to_be_visible()
    assert set(rates(used)) == {3e-4}

    page.get_by_test_id("button-scale-lr-0.1").click()
    keep(page, "confirm")
    page.get_by_test_id("confirm").click()
    command = page.locator('[data-testid^="command-"][data-kind="scale_lr"]')
    expect(command).to_have_attribute("data-state", re.compile("applied|verified"))
    expect(command.get_by_test_id("command-state")).to_contain_text(
        re.compile(r"at step [\d\s\u2009\u202f]+")
    )
    expect(command).to_have_attribute("data-state", "verified", timeout=30_000)
    keep(page, "verified")

    (sent,) = server.client.get(f"/api/runs/{run}/commands")["commands"]
    assert sent["applied_step"] > 0
    assert [float(v) for v in sent["before"].values()] == [3e-4] * len(sent["before"])
    assert all(float(v) == pytest.approx(3e-5) for v in sent["after"].values())
    eventually(
        lambda: len([lr for lr in rates(used) if lr == pytest.approx(3e-5)]) >= 20,
        20,
        "learning rate of 3e-5 in the optimizer's own arithmetic",
    )
    seen = rates(used)
    first = next(i for i, lr in enumerate(seen) if lr != 3e-4)
    assert all(lr == pytest.approx(3e-5) for lr in seen[first:])
    assert training.poll() is None, "the training goes on"
    states = [t["state"] for t in sent["transitions"]]
    assert states == ["queued", "delivered", "armed", "applied", "verified"]
    rows = server.client.get(f"/api/audit?run={run}&limit=100")["rows"]
    assert len([row for row in rows if row["target"] == sent["id"]]) >= 5


def test_rollout_with_every_update_skipped_shows_the_streak_and_takes_stop(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    training = train(str(ROOT / "scenarios" / "rollout.py"))
    run = server.run_id()

    def skipping() -> bool:
        incidents = server.client.get(f"/api/runs/{run}/incidents")["incidents"]
        return any(i["syndrome"] == "all-updates-skipped" for i in incidents)

    eventually(skipping, 120, "incident about skipped updates")
    page = open_page(f"/r/{run}")
    expect(page.get_by_test_id("incident-banner").first).to_contain_text(re.compile("skipped"))
    expect(page.get_by_test_id("incident-banner").first).to_contain_text("bptt")
    # Of the last hundred attempts, as the streak goes on; a rare batch may still get through.
    expect(page.get_by_test_id("vital-applied")).to_contain_text(
        re.compile(r"\b[0-5]\s%"), timeout=60_000
    )
    keep(page, "skipping")

    page.get_by_test_id("button-stop").click()
    confirm = page.get_by_test_id("confirm")
    expect(confirm).to_be_disabled()
    name = server.client.get(f"/api/runs/{run}")["name"]
    page.get_by_test_id("confirm-name").fill("another run")
    page.get_by_test_id("confirm-reason").fill("every update is skipped")
    expect(confirm).to_be_disabled()
    page.get_by_test_id("confirm-name").fill(name)
    confirm.click()
    training.wait(90)
    expect(page.get_by_test_id("run-status")).to_have_attribute(
        "data-status", "ended", timeout=20_000
    )
    ended = server.client.get(f"/api/runs/{run}")
    assert "stopped" in ended["end_reason"]
    (stop,) = [
        c for c in server.client.get(f"/api/runs/{run}/commands")["commands"] if c["kind"] == "stop"
    ]
    assert stop["state"] in ("applied", "verified") and stop["reason"] == "every update is skipped"
    keep(page, "stopped")


def test_healthy_training_is_left_in_peace(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    training = train(str(ROOT / "scenarios" / "gru.py"), "--healthy", "--steps", "500")
    page = open_page()
    run = server.run_id()
    expect(page.get_by_test_id(f"tile-{run}")).to_be_visible()
    assert training.wait(240) == 0
    incidents = server.client.get(f"/api/runs/{run}/incidents")["incidents"]
    assert [i["title"] for i in incidents if i["severity"] != "notice"] == []
    expect(page.get_by_test_id("count-critical")).to_have_count(0)
    keep(page, "quiet")
