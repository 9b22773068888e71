"""Channels, routes, quiet hours, the log and desktop notifications, by hand in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import Server, eventually
from e2e.scripted import Scripted, scripted
from tests.server.notify.kit import Receiver, free_port, receiver

pytestmark = pytest.mark.e2e

OpenPage = Callable[..., Page]
Keep = Callable[[Page, str], None]
PAGE = "/settings/notifications"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SEND_MS = 60_000


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers of a test are on this machine."""
    monkeypatch.setenv("NANWATCH_ALLOW_LOCAL_WEBHOOKS", "1")


@pytest.fixture
def server(allowed: None, server: Server) -> Server:
    """The usual one, with that."""
    return server


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """An HTTP receiver."""
    with receiver() as made:
        yield made


def sick(run: Scripted) -> None:
    """A gradient that explodes from step 400."""
    steps = np.arange(600)
    norm = (1 + 0.1 * np.sin(steps * 1.7)) * 2.0 ** (np.maximum(steps - 400, 0) / 6)
    run.points(
        {
            ("loss", ""): norm,
            ("grad_norm", ""): norm,
            ("clip_threshold", ""): np.ones(600),
            ("update_applied", ""): np.ones(600),
        }
    )


def add(page: Page, name: str, url: str) -> None:
    """Fill in the form of a new channel and send it by the keyboard."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Address").fill(url)
    page.get_by_label("Address").press("Enter")


def test_from_an_empty_page_to_a_message(
    server: Server, open_page: OpenPage, keep: Keep, hook: Receiver
) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Notifications").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Notifications")
    keep(page, "empty")

    add(page, "team", "slack://wrong")
    refusal = page.get_by_role("form", name="Add a channel").get_by_role("alert")
    expect(refusal).to_contain_text("this is no slack:// address", timeout=SEND_MS)
    add(page, "team", hook.url)
    expect(page.get_by_test_id("signing-key")).to_contain_text("whsec_", timeout=SEND_MS)
    keep(page, "key")
    page.get_by_role("button", name="I have it").click()
    channel = page.get_by_test_id("channel")
    expect(channel).to_contain_text("Signed webhook · http://127.0.0.1/…")
    assert "s3cr3t-path" not in page.content() and "whsec_" not in page.content()

    channel.get_by_role("button", name="Send a test").click()
    result = channel.get_by_test_id("test-result")
    expect(result).to_contain_text("✓ Delivered after", timeout=SEND_MS)
    assert hook.bodies[0]["event"] == "test"

    route = channel.get_by_test_id("route")
    expect(route).to_contain_text("Every project · caution and critical")
    route.get_by_role("button", name="Change").click()
    form = page.get_by_role("form", name="Change the route")
    form.get_by_label("Project").fill("p")
    form.get_by_label("Also say when it is over").check()
    form.get_by_label("Quiet hours", exact=True).check()
    form.get_by_label("From").fill("03:00")
    form.get_by_label("To", exact=True).fill("03:01")
    form.get_by_label("Time zone").fill("Mars/Olympus")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("time zone like Europe/Berlin")
    form.get_by_label("Time zone").fill("Europe/Berlin")
    keep(page, "route")
    form.get_by_role("button", name="Save").click()
    expect(route).to_contain_text(
        "Project p · caution and critical · also when it is over · "
        "quiet 03:00 to 03:01 Europe/Berlin, critical passes"
    )

    with scripted(server.url, server.token) as run:
        sick(run)
        row = page.get_by_test_id("delivery-log").locator('tr[data-state="sent"]').first
        expect(row).to_contain_text(re.compile("team.*scripted.*✓ sent"), timeout=SEND_MS)
        body = next(one for one in hook.bodies if one["event"] != "test")
        keep(page, "told")
        row.get_by_role("link").first.click()
        expect(page).to_have_url(re.compile(re.escape(body["incident"]["url"].split("/a/")[1])))


def test_deleting_asks_and_everything_is_in_the_audit(
    server: Server, open_page: OpenPage, hook: Receiver
) -> None:
    server.client.post("/api/notifications/channels", {"name": "team", "url": hook.url})
    page = open_page(PAGE)
    channel = page.get_by_test_id("channel")
    page.get_by_role("button", name="Delete team and its routes").click()
    page.get_by_role("button", name="Keep").press("Enter")
    again = page.get_by_role("button", name="Delete team and its routes")
    expect(again).to_be_focused()
    again.press("Enter")
    channel.locator(".asked").get_by_role("button", name="Delete").click()
    expect(channel).to_have_count(0)
    page.goto(server.url + "/audit")
    table = page.get_by_test_id("audit-table")
    expect(table).to_contain_text("notify.channel.create")
    expect(table).to_contain_text("notify.channel.delete")


def test_a_channel_that_does_not_work_is_seen_everywhere(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    port = free_port()
    url = f"json://127.0.0.1:{port}/x"
    server.client.post("/api/notifications/channels", {"name": "dead", "url": url})
    with scripted(server.url, server.token) as run:
        sick(run)

        def tries() -> bool:
            rows = server.client.get("/api/notifications/deliveries")["deliveries"]
            return any(row["tries"] > 1 for row in rows)

        eventually(tries, 90, "second try")
        page = open_page("/", color_scheme="dark", **PHONE)
        banner = page.get_by_test_id("not-arriving")
        expect(banner).to_contain_text("Notifications do not arrive at dead")
        banner.get_by_role("link").click()
        row = page.get_by_test_id("delivery-log").locator('tr[data-state="waiting"]').first
        expect(row).to_contain_text(re.compile(r"waiting, tried \d+ times"))
        page.get_by_role("button", name="Send a test").click()
        result = page.get_by_test_id("test-result")
        expect(result).to_contain_text("✗ Not delivered:", timeout=SEND_MS)
        page.get_by_role("button", name="Add a route…").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        keep(page, "phone-dark")
        light = open_page(PAGE, **PHONE)
        expect(light.get_by_test_id("channel")).to_be_visible()
        assert light.evaluate("document.documentElement.scrollWidth") <= 390
        keep(light, "phone-light")


SPY = """
window.shown = [];
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    window.shown.push({ title, tag: options.tag, body: options.body, it: this });
  }
};
"""


def test_the_desktop_is_told_once_and_a_click_opens_the_incident(
    server: Server, open_page: OpenPage, keep: Keep
) -> None:
    page = open_page("/")
    page.context.add_init_script(SPY)
    page.goto(server.url + PAGE)
    card = page.get_by_test_id("desktop")
    if card.get_attribute("data-state") == "denied":  # headless browsers say no by themselves
        expect(card).to_contain_text("told not to show notifications")
    page.context.grant_permissions(["notifications"], origin=server.url)
    page.reload()
    expect(card).to_have_attribute("data-state", "granted")
    page.get_by_test_id("desktop-choice").select_option("warning")
    page.get_by_role("button", name="Show a sample").click()
    assert page.evaluate("shown.map((one) => one.tag)") == ["nanwatch-sample"]
    keep(page, "desktop")
    page.goto(server.url + "/runs")
    with scripted(server.url, server.token) as run:
        sick(run)
        eventually(lambda: page.evaluate("shown.length"), 60, "notification")
        page.wait_for_timeout(1500)
        shown = page.evaluate("shown.map(({ title, tag, body }) => ({ title, tag, body }))")
        told = [(one["tag"], one["title"].split(":")[0]) for one in shown]
        assert len(told) == len(set(told)), "never the same again"
        known = server.client.get(f"/api/incidents/{shown[-1]['tag']}")
        assert known["title"] in shown[-1]["title"] and "scripted" in shown[-1]["title"]
        assert "Try: " in shown[-1]["body"]
        page.evaluate("shown.at(-1).it.onclick()")
        expect(page).to_have_url(re.compile(f"/a/{re.escape(shown[-1]['tag'])}$"))
        expect(page.get_by_test_id("incident-title")).to_be_visible()


def test_who_may_only_look_sees_what_was_sent(
    server: Server, open_page: OpenPage, keep: Keep, hook: Receiver
) -> None:
    made = server.client.post("/api/notifications/channels", {"name": "team", "url": hook.url})
    with scripted(server.url, server.token) as run:
        sick(run)
        eventually(lambda: hook.got, 60, "a message")
    context = open_page("/").context.browser.new_context()  # type: ignore[union-attr]
    page = context.new_page()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nanwatch", "login", "--role", "view", "--no-open"),
            *("--data-dir", str(Path(server.data_dir))),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    page.goto(done.stdout.strip())
    page.get_by_test_id("connection").wait_for()
    page.goto(server.url + PAGE)
    expect(page.get_by_test_id("only-admins")).to_contain_text("signed in as “view”")
    expect(page.get_by_test_id("delivery-log")).to_contain_text("team")
    expect(page.get_by_role("button", name="Send a test")).to_have_count(0)
    assert made["signing_key"] not in page.content()
    keep(page, "viewer")
    context.close()
