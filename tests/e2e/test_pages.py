"""How the pages look and behave: sign-in, phone, dark, keyboard, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import ROOT, TRAININGS, Server, Train, eventually

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def test_login_link_works_once_and_leaves_no_code_behind(
    server: Server, open_page: OpenPage, chromium: object
) -> None:
    page = open_page()
    assert "code" not in page.url
    link = server.link()
    second = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    second.goto(link)
    second.get_by_test_id("connection").wait_for()
    third = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    third.goto(link)
    expect(third.get_by_text("nanwatch login").first).to_be_visible()
    expect(third.get_by_test_id("connection")).to_have_count(0)
    second.context.close()
    third.context.close()


def test_run_page_on_a_phone_in_the_dark(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    train(str(ROOT / "scenarios" / "sac.py"), "--steps-per-second", "60")
    run = server.run_id()
    eventually(
        lambda: server.client.get(f"/api/runs/{run}/incidents")["incidents"], 60, "an incident"
    )
    page = open_page(f"/r/{run}", color_scheme="dark", **PHONE)
    expect(page.get_by_test_id("incident-title").first).to_be_visible()
    page.get_by_test_id("chart-loss").scroll_into_view_if_needed()
    expect(page.get_by_test_id("chart-loss").locator("svg.main-svg").first).to_be_visible()
    page.get_by_test_id("chart-updates").scroll_into_view_if_needed()
    expect(page.get_by_test_id("chart-updates").locator("svg.main-svg").first).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360, f"the page is {wide} px wide on a phone of 360"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(c) for c in background.strip("rgba()").split(",")[:3]) < 150, background
    keep(page, "phone-dark")
    page.goto(server.url + "/")
    expect(page.get_by_test_id(f"tile-{run}")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    keep(page, "wall-phone-dark")


def test_read_only_run_offers_nothing_and_says_why(
    server: Server, train: Train, open_page: OpenPage, keep: Keep
) -> None:
    train(str(TRAININGS / "metrics.py"), "2000", "40")
    run = server.run_id()
    page = open_page(f"/r/{run}")
    expect(page.get_by_text("Read-only run")).to_be_visible()
    for name in ("button-scale-lr-0.1", "button-stop", "button-checkpoint"):
        expect(page.get_by_test_id(name)).to_have_count(0)
    with pytest.raises(RuntimeError, match="does not allow stop"):
        server.client.post(f"/api/runs/{run}/commands", {"kind": "stop", "args": {}})
    keep(page, "read-only")


def test_learning_rate_out_of_bounds_is_refused_in_words(
    server: Server, train: Train, open_page: OpenPage
) -> None:
    train(str(ROOT / "scenarios" / "sac.py"), "--healthy", "--steps-per-second", "40")
    run = server.run_id()
    eventually(lambda: server.client.get(f"/api/runs/{run}")["last_step"] > 20, 60, "steps")

    def refused(value: object) -> str:
        with pytest.raises(RuntimeError) as caught:
            server.client.post(
                f"/api/runs/{run}/commands", {"kind": "set_lr", "args": {"lr": value}}
            )
        return str(caught.value)

    assert "422" in refused(True) and "number" in refused(True)
    assert "422" in refused(float("nan"))
    assert "above 0" in refused(-0.1)
    assert "1e-08 to 0.01" in refused(5.0)
    assert server.client.get(f"/api/runs/{run}/commands")["commands"] == []
    page = open_page(f"/r/{run}")
    page.get_by_test_id("input-lr").fill("5")
    button = page.get_by_test_id("button-set-lr")
    if button.is_enabled():
        button.click()
        expect(page.get_by_test_id("confirm-refusal")).to_contain_text("0.01")
