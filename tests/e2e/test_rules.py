"""Limits of the rules by hand in a real browser: switched, typed, tried, saved; then they count."""

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
PAGE = "/settings/rules"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PATIENT_MS = 60_000


def three_runs(server: Server) -> list[str]:
    """Healthy, four skips in a row, thirty: the last one has an incident."""
    runs = [skipping_run(server, n, skips=skips) for n, skips in ((1, 0), (2, 4), (3, 30))]
    eventually(lambda: server.client.get(f"/api/runs/{runs[2]}/incidents")["incidents"], 30, "it")
    return runs


def change(page: Page, server: Server, text: str) -> None:
    """As another page of this browser would."""
    headers = {"X-Nanwatch": "1", "Origin": server.url}
    url = f"{server.url}/api/rules?project=p"
    assert page.request.put(url, data={"text": text}, headers=headers).ok


def test_a_mistake_is_marked_at_its_line_and_nothing_typed_is_lost(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    skipping_run(server, 1)
    page = open_page("/")
    page.get_by_role("link", name="Rules", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Rules")
    page.get_by_test_id("rules-project").select_option("p")
    expect(page).to_have_url(re.compile(r"project=p"))
    expect(page.get_by_text("Never changed")).to_be_visible()
    keep(page, "packaged")

    # A switch writes the text, and back takes it out again.
    text, save = page.get_by_test_id("rules-text"), page.get_by_test_id("rules-save")
    plateau = page.get_by_role("switch", name="Plateau: on")
    plateau.uncheck()
    expect(text).to_have_value("[plateau]\nenabled = false\n")
    plateau.check()
    expect(text).to_have_value("")
    expect(save).to_be_disabled()

    # A mistake is marked at its line, and Save goes there.
    text.fill("# ours\n[skip_streak]\nwarnings = 3\n")
    wrong = page.get_by_test_id("rules-wrong")
    expect(wrong).to_contain_text("line 3: rule skip_streak has no limit 'warnings'")
    expect(page.locator(".gutter-wrong")).to_have_text(re.compile("3"))
    expect(plateau).to_be_disabled()
    keep(page, "wrong")
    save.click()
    marked = "t => t.value.slice(t.selectionStart, t.selectionEnd)"
    expect(page.get_by_test_id("rules-bar")).to_contain_text("Switches wait until line 3")
    assert text.evaluate(marked) == "warnings = 3"
    expect(text).to_be_focused()

    # Mended; another page and back loses nothing.
    text.fill("# ours\n[skip_streak]\nwarning = 3\ncritical = 200\nshare = 2\n")
    expect(page.get_by_test_id("rule-skip_streak")).to_contain_text("Changed: warning 3, critical")
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("link", name=re.compile("Rules.*Changes of limits are not saved")).click()
    page.get_by_test_id("rules-project").select_option("p")
    expect(text).to_have_value(re.compile("warning = 3"))


def test_limits_are_tried_saved_and_then_they_count(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    _, mild, sick = three_runs(server)
    page = open_page(f"{PAGE}?project=p")
    text, save = page.get_by_test_id("rules-text"), page.get_by_test_id("rules-save")
    text.fill("# ours\n[skip_streak]\nwarning = 3\ncritical = 200\nshare = 2\n")
    # Tried: what is new, what stays and is milder.
    page.get_by_test_id("rules-try-button").click()
    said = page.get_by_test_id("try-sentence")
    expect(said).to_contain_text(
        "It would have fired 2× on the last 3 runs, in 2 of them. "
        "Against what the runs have: 1 new, 1 as before.",
        timeout=PATIENT_MS,
    )
    rows = page.get_by_test_id("tried-runs")
    expect(rows.locator(f'[data-run="{mild}"] [data-state="new"]')).to_contain_text(
        "3 updates skipped"
    )
    expect(rows.locator(f'[data-run="{sick}"] [data-state="same"]')).to_contain_text("was critical")
    keep(page, "tried")

    save.click()
    expect(page.get_by_test_id("rules-bar")).to_contain_text("✓ Saved")
    expect(page.get_by_test_id("rules-changed")).to_contain_text("by browser:")
    with scripted(server.url, server.token) as run:
        run.points({("update_applied", ""): np.ones(30)})
        run.points({("update_applied", ""): np.array([0.0] * 3 + [1.0] * 20)})
        page.goto(f"{server.url}/r/{RUN}")
        expect(page.get_by_test_id("incident-title")).to_contain_text("3 updates skipped")
        ran = page.get_by_test_id("rules-ran")
        ran.locator("summary").click()
        expect(ran).to_contain_text(re.compile(r"Rules \d+ of \d+ ran"))
        expect(ran).to_contain_text(re.compile(r"\d could not: no loss sent"))
        keep(page, "run")
        page.get_by_test_id("incident-title").get_by_role("link").click()
        page.get_by_role("link", name="This rule’s limits").first.click()
    expect(page).to_have_url(re.compile(r"project=p&rule=skip_streak"))
    row = page.get_by_test_id("rule-skip_streak")
    expect(row).to_be_in_viewport()
    field = row.get_by_label("warning of Skipped updates")
    expect(field).to_have_value("3")
    field.fill("")
    field.press("Enter")
    expect(text).to_have_value("# ours\n[skip_streak]\ncritical = 200\nshare = 2\n")
    keep(page, "one-rule")


def test_leaving_asks_and_a_change_of_somebody_else_is_not_lost(
    server: Server, open_page: OpenPage
) -> None:
    skipping_run(server, 1)
    page = open_page(f"{PAGE}?project=p")
    page.get_by_role("switch", name="Silence: on").uncheck()
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.reload(), 0)")
    eventually(lambda: page.wait_for_timeout(50) or asked, 10, "question")
    assert asked == ["beforeunload"]
    text = page.get_by_test_id("rules-text")
    expect(text).to_have_value("[stall]\nenabled = false\n")

    change(page, server, "[plateau]\nenabled = false\n")
    save, bar = page.get_by_test_id("rules-save"), page.get_by_test_id("rules-bar")
    save.click()
    expect(bar.get_by_role("alert")).to_contain_text("has changed these limits meanwhile")
    bar.get_by_role("button", name="Load theirs").click()
    expect(text).to_have_value("[plateau]\nenabled = false\n")
    expect(page.get_by_role("switch", name="Plateau: on")).not_to_be_checked()
    page.get_by_role("button", name="Revert to packaged").click()
    expect(text).to_have_value("")
    save.click()
    expect(bar).to_contain_text("✓ Saved")
    assert server.client.get("/api/rules?project=p")["text"] == ""


def test_what_counts_everywhere_shows_in_a_project_and_a_viewer_only_looks(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    skipping_run(server, 1)
    page = open_page(PAGE)
    page.get_by_role("switch", name="Plateau: on").uncheck()
    page.get_by_test_id("rules-save").click()
    expect(page.get_by_test_id("rules-bar")).to_contain_text("✓ Saved")
    page.get_by_test_id("rules-project").select_option("p")
    row = page.get_by_test_id("rule-plateau")
    expect(row).to_contain_text("Changed: off (every project)")
    page.get_by_role("switch", name="Plateau: on").check()
    expect(page.get_by_test_id("rules-text")).to_have_value("[plateau]\nenabled = true\n")
    page.get_by_role("button", name="Undo changes").click()

    page.context.clear_cookies()
    page.goto(server.link("view"))
    expect(page.get_by_text("· view ·")).to_be_visible()
    page.goto(f"{server.url}{PAGE}?project=p")
    expect(page.get_by_test_id("rules-read-only")).to_contain_text("the role “control”")
    expect(page.get_by_role("switch", name="Plateau: on")).to_be_disabled()
    expect(page.get_by_test_id("rules-text")).not_to_be_editable()
    expect(page.get_by_test_id("rules-save")).to_have_count(0)
    expect(page.get_by_test_id("rules-try-button")).to_have_count(0)
    keep(page, "viewer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(server: Server, open_page: OpenPage, keep: Keep, scheme: str) -> None:
    three_runs(server)
    text = "[skip_streak]\nwarning = 3\n"
    page = open_page("/", color_scheme=scheme, **PHONE)
    change(page, server, text)
    page.goto(f"{server.url}{PAGE}?project=p&rule=skip_streak")
    expect(page.get_by_test_id("rule-skip_streak").locator("table")).to_be_visible()
    page.get_by_test_id("rules-try-button").tap()
    expect(page.get_by_test_id("try-sentence")).to_be_visible(timeout=PATIENT_MS)
    page.get_by_test_id("rules-text").fill(text + "warning = 4\n")
    expect(page.get_by_test_id("rules-wrong")).to_contain_text("line 3")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, f"the page is {wide} px wide on a phone of 390"
    keep(page, "page")
