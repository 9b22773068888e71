"""What runs take, how long points are kept, and deleting a run, by hand in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import Server, eventually
from e2e.scripted import scripted
from tests.server.wire import RUN, skipping_run

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]
PAGE = "/settings/storage"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def lost(server: Server, run: str) -> None:
    """Wait until the server knows that nobody sends for the run any more."""

    def status() -> bool:
        return server.client.get(f"/api/runs/{run}")["status"] in ("lost", "ended")

    eventually(status, 60, "lost contact")


def test_retention_says_what_it_takes_and_is_in_the_audit(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    skipping_run(server, 1)
    pinned = skipping_run(server, 2)
    page = open_page(f"/r/{pinned}")
    stored = page.get_by_test_id("stored")
    stored.locator("summary").click()
    stored.get_by_label("Pinned").check()
    expect(stored).to_contain_text("for ever: this run is pinned")
    keep(page, "stored")

    page.get_by_role("link", name="Storage", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Storage")
    row = page.get_by_test_id("storage-projects").locator('tr[data-project="p"]')
    expect(row).to_contain_text("for ever by default")
    expect(row).to_contain_text(re.compile(r"\d (B|KiB|MiB)"))
    row.get_by_role("button", name="Change how long p keeps points").click()
    form = page.get_by_role("form", name="How long p keeps points")
    form.get_by_label("Keep points of p").select_option("other")
    days = form.get_by_label("Days", exact=True)
    days.fill("many")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_have_text("Expected a number of days above 0.")
    days.fill("45")
    expect(form.get_by_test_id("retention-preview")).to_contain_text(
        "Within the hour 1 run will lose the points older than 45 days; summaries stay"
    )
    keep(page, "retention")
    form.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("45 days")
    expect(row).not_to_contain_text("by default")
    page.goto(server.url + "/audit")
    table = page.get_by_test_id("audit-table")
    expect(table.locator('tr[data-action="retention.change"]')).to_contain_text("days 45")
    expect(table.locator('tr[data-action="run.pin"]')).to_be_visible()


def test_a_run_is_deleted_by_its_name_and_never_while_it_is_live(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    with scripted(server.url, server.token) as run:
        run.points({("loss", ""): np.linspace(2, 1, 300)})
        page = open_page(f"/r/{RUN}")
        page.get_by_test_id("stored").locator("summary").click()
        button = page.get_by_test_id("delete-run")
        button.click()
        dialog = page.get_by_test_id("delete-dialog")
        expect(dialog.get_by_role("alert")).to_contain_text("is live: stop the training first")
        expect(dialog.get_by_test_id("delete-confirm")).to_have_count(0)
        keep(page, "live")
        page.keyboard.press("Escape")
        expect(button).to_be_focused()
    lost(server, RUN)
    expect(page.get_by_test_id("run-status")).to_have_attribute("data-status", "lost")
    button.click()
    expect(dialog).to_contain_text("every point of 1 series")
    confirm, name = dialog.get_by_test_id("delete-confirm"), dialog.get_by_test_id("delete-name")
    name.fill("script")
    expect(confirm).to_be_disabled()
    name.fill("scripted")
    keep(page, "confirm")
    name.press("Enter")
    expect(page).to_have_url(server.url + "/runs")
    expect(page.get_by_test_id("deleted-note")).to_contain_text("scripted is deleted")
    expect(page.get_by_text("No run matches.")).to_be_visible()
    keep(page, "deleted")
    eventually(lambda: server.client.get("/api/storage")["removing"] == 0, 60, "end of it")
    page.goto(server.url + "/audit")
    row = page.get_by_test_id("audit-table").locator('tr[data-action="run.delete"]')
    expect(row).to_contain_text("name scripted")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_for_a_viewer(
    server: Server, open_page: OpenPage, keep: Keep, scheme: str
) -> None:
    skipping_run(server, 1, skips=30)
    page = open_page(PAGE, color_scheme=scheme, **PHONE)
    runs = page.get_by_test_id("largest-runs")
    expect(runs.get_by_role("button", name="Delete run1")).to_be_visible()
    keep(page, "admin")
    page.context.clear_cookies()
    page.goto(server.link("view"))
    expect(page.get_by_text("· view ·")).to_be_visible()
    page.goto(server.url + PAGE)
    expect(runs).to_contain_text("run1")
    expect(page.get_by_role("button", name=re.compile("Delete|Change how long"))).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "viewer")
