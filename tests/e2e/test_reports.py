"""What a run says of itself besides points: where a NaN began, what is measured, what failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import ROOT, TRAININGS, Server, Train, eventually
from e2e.scripted import Scripted, scripted
from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from tests.server.wire import RUN

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]
RECORDER = "/home/ada/runs/a/flight-recorder-410.npz"
CHECKPOINT = "/home/ada/runs/a/before-update-410.pt"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def sick(run: Scripted) -> None:
    """400 calm attempts, then nothing but NaN; the guard holds every update."""
    calm, bad = np.ones(400), np.full(30, np.nan)
    zeros = np.zeros(430)
    repaired = zeros.copy()
    repaired[[100, 300, 350]] = [90.0, 8.0, 4.0]
    run.points(
        {
            ("loss", ""): np.concatenate([2 + 0.1 * np.sin(np.arange(400)), bad]),
            ("grad_norm", ""): np.concatenate([calm, bad]),
            ("update_applied", ""): np.concatenate([calm, np.zeros(30)]),
            ("skip_reason", ""): np.concatenate([0 * calm, np.full(30, 3.0)]),
            ("repaired", "finite_rows"): repaired,
            ("gpu_utilization", ""): 90 + zeros,
            **{("update_ratio_layer", f"layers.{i}"): 10.0 ** (-i - zeros) for i in range(9)},
        }
    )


FOUND = f.Forensics(
    step=400,
    time=time.time(),
    trigger="gradient",
    verdict="layer",
    cause="nan",
    first_forward="layers.17",
    first_backward="head",
    producers=["layers.17"],
    propagators=["layers.18", "head"],
    text="layers.17 took the logarithm of a negative number.",
    recorder_path=RECORDER,
    checkpoint_path=CHECKPOINT,
    facts={"batch_index": "399", "dtype": "bfloat16"},
    tracing_steps=50,
)


def test_the_first_bad_layer_is_named_on_both_pages(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    with scripted(server.url, server.token) as run:
        sick(run)
        page = open_page(f"/r/{RUN}")
        banner = page.get_by_test_id("incident-banner").first
        expect(banner).to_be_visible()
        expect(page.get_by_test_id("forensics")).to_have_count(0)
        bad = f.NonFinite(step=400, time=1.0, where="moment", scope="policy", nan=2, total=9)
        run.records(bad, FOUND)
        title = "First bad layer: layers.17 (forward), produced NaN from finite inputs"
        expect(page.get_by_test_id("incident-origin").first).to_contain_text(title)
        card = page.get_by_test_id("forensics-list")
        expect(card.get_by_test_id("forensics-title")).to_have_text(title)
        expect(card).to_contain_text("layers.17 took the logarithm of a negative number.")
        expect(card).to_contain_text(RECORDER)
        expect(card.get_by_test_id("forensics-tracing")).to_contain_text("until step 450")
        card.get_by_test_id("nonfinite-reports").locator("summary").click()
        expect(card).to_contain_text("NaN in 2 of 9 tensors, in the optimizer's moments of policy")
        keep(page, "run")

        banner.get_by_role("link", name="How it was found").click()
        found = page.get_by_test_id("forensics")
        expect(found).to_have_attribute("data-verdict", "layer")
        expect(found.get_by_test_id("forensics-title")).to_have_text(title)
        expect(found).to_contain_text(CHECKPOINT)
        expect(found).to_contain_text("layers.18, head")
        found.get_by_text("What was known then").click()
        expect(found).to_contain_text("bfloat16")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        found.get_by_role("button", name=f"Copy: {CHECKPOINT}").click()
        assert page.evaluate("navigator.clipboard.readText()") == CHECKPOINT
        keep(page, "incident")
    phone = open_page(f"/r/{RUN}", color_scheme="dark", **PHONE)
    expect(phone.get_by_test_id("forensics-title")).to_have_text(title)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    keep(phone, "phone")


def test_repairs_and_failures_of_our_own_are_said_and_else_nothing(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    with scripted(server.url, server.token) as run:
        run.points({("loss", ""): np.linspace(3, 2, 50), ("repaired", "finite_rows"): np.zeros(50)})
        run.beat(overhead=0.004)
        page = open_page(f"/r/{RUN}")
        expect(page.get_by_text("nanwatch costs 0.4 % of a step")).to_be_visible()
        expect(page.get_by_test_id("chart-loss").locator("svg.main-svg").first).to_be_visible()
        for quiet in ("repaired-banner", "itself", "coverage", "forensics-list"):
            expect(page.get_by_test_id(quiet)).to_have_count(0)
        run.points({("loss", ""): np.full(3, 2.0), ("repaired", "finite_rows"): np.full(3, 4.0)})
        expect(page.get_by_test_id("repaired-banner")).to_contain_text(
            "finite_rows changed 12 values in the last 200 attempts"
        )
        problem = f.Problem(time=1.0, kind="probe q", count=3, text="sizes <b>differ</b>")
        run.records(problem)
        run.beat(dropped={"queue full": 1200})
        itself = page.get_by_test_id("itself")
        expect(itself).to_contain_text("nanwatch had 3 internal errors: probe q")
        expect(itself).to_contain_text(re.compile(r"queue full\s*1.200"))
        itself.get_by_test_id("internal-errors").click()
        expect(itself).to_contain_text("sizes <b>differ</b>")
        said = {"gradient norms": "every 8", "activations": "not measured: the model is compiled"}
        mark = f.Mark(what="coverage", step=52, time=1.0, text="what is measured", data=said)
        run.records(mark, lane="scalars")
        coverage = page.get_by_test_id("coverage")
        coverage.locator("summary").click()
        expect(coverage.locator('[data-measured="true"]')).to_contain_text("every 8")
        expect(coverage.locator('[data-measured="false"]')).to_contain_text("compiled")
        expect(page.get_by_test_id("event-rail").locator('[data-kind="mark"]')).to_have_count(0)
        keep(page, "said")


def test_closed_groups_cost_nothing_and_an_address_opens_them(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    with scripted(server.url, server.token) as run:
        sick(run)
        page = open_page(f"/r/{RUN}")
        system = page.get_by_test_id("group-system")
        expect(system).to_contain_text("1 chart")
        expect(page.get_by_test_id("chart-gpu_utilization")).to_have_count(0)
        system.get_by_role("button").click()
        expect(page).to_have_url(re.compile(r"g\.system=1"))
        page.reload()
        page.get_by_test_id("chart-gpu_utilization").scroll_into_view_if_needed()
        drawn = page.get_by_test_id("chart-gpu_utilization").locator("svg.main-svg")
        expect(drawn.first).to_be_visible()
        ratio = page.get_by_test_id("chart-update-ratio")
        ratio.scroll_into_view_if_needed()
        expect(ratio).to_contain_text("6 of 9 layers: the largest and smallest")
        expect(ratio).to_contain_text("layers.0")
        expect(ratio).to_contain_text("1e-3")
        updates = page.get_by_test_id("chart-updates")
        updates.scroll_into_view_if_needed()
        expect(updates).to_contain_text(re.compile(r"held by nanwatch\s*100 %"))
        for group in ("activations", "optimizer", "policy", "more"):
            expect(page.get_by_test_id(f"group-{group}")).to_have_count(0)


def test_tracing_is_asked_for_by_a_click_and_verified_by_what_it_found(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    offer = ControlOffer(tracing=True, granted_by="launch")
    with scripted(server.url, server.token, offer) as run:
        run.points({("loss", ""): np.linspace(3, 2, 50)})
        page = open_page(f"/r/{RUN}")
        controls = page.get_by_role("region", name="Controls")
        expect(controls).to_contain_text("Allowed by the launch command: tracing")
        expect(page.get_by_test_id("button-checkpoint")).to_have_count(0)
        page.get_by_test_id("button-trace").click()
        expect(page.get_by_test_id("confirm-dialog")).to_contain_text("50 attempts")
        page.get_by_test_id("confirm").click()
        command = page.locator('[data-testid^="command-"][data-kind="arm_tracing"]')
        expect(command).to_have_attribute("data-state", "applied")
        expect(command).to_contain_text("Trace 50 attempts")
        expect(command).to_contain_text("every layer is looked at for 50 attempts")
        run.records(f.Forensics(step=100, time=1.0, trigger="command", text="All were finite."))
        expect(command).to_have_attribute("data-state", "verified")
        expect(page.get_by_test_id("forensics-title")).to_have_text(
            "Tracing met no value that was not finite"
        )
        keep(page, "traced")
        [sent] = server.client.get(f"/api/runs/{RUN}/commands")["commands"]
        assert sent["args"] == {"steps": 50} and sent["applied_step"] == 50
        rows = server.client.get(f"/api/audit?run={RUN}&limit=100")["rows"]
        assert "command.verified" in [row["action"] for row in rows if row["target"] == sent["id"]]


def test_a_real_training_says_what_it_measures(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    train(str(ROOT / "scenarios" / "sac.py"), "--healthy", "--steps-per-second", "40")
    run = server.run_id()
    eventually(lambda: server.client.get(f"/api/runs/{run}")["coverage"], 60, "coverage")
    page = open_page(f"/r/{run}")
    coverage = page.get_by_test_id("coverage")
    coverage.locator("summary").click()
    expect(coverage).to_contain_text(re.compile(r"gradient norms\s*every"))
    marks = server.client.get(f"/api/runs/{run}/events")["marks"]
    assert "coverage" not in [mark["what"] for mark in marks]
    keep(page, "coverage")


def test_a_real_training_is_traced_and_names_the_layer_that_breaks(
    server: Server, train: Train, open_page: OpenPage, keep: Keep, tmp_path: Path
) -> None:
    switch = tmp_path / "break"
    train(str(TRAININGS / "bad_layer.py"), str(switch), "60")
    run = server.run_id()
    page = open_page(f"/r/{run}")
    page.get_by_test_id("button-trace").click()
    page.get_by_test_id("confirm").click()
    command = page.locator('[data-testid^="command-"][data-kind="arm_tracing"]')
    expect(command).to_have_attribute("data-state", "verified", timeout=30_000)
    expect(page.get_by_test_id("forensics-title").first).to_have_text(
        re.compile("Tracing met no value that was not finite|Tracing 50 attempts, as asked")
    )
    switch.touch()
    title = re.compile(r"First bad layer: logarithm\S* \(forward\), produced NaN")
    expect(page.get_by_test_id("forensics-title").first).to_have_text(title, timeout=30_000)
    expect(page.get_by_test_id("incident-origin").first).to_have_text(title, timeout=30_000)
    expect(page.get_by_test_id("forensics").first).to_contain_text("flight")
    keep(page, "named")
