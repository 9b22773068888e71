"""Finds a Chromium for the tests, and installs one where there is none.

The system's own, else Debian's package if we are root, else Playwright's own download.
Run as `python tests/e2e/browser.py --install`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def system_browser() -> str | None:
    """Path of an installed Chromium or Chrome."""
    given = os.environ.get("NANWATCH_TEST_BROWSER")
    return given or next((found for name in NAMES if (found := shutil.which(name))), None)


def playwright_browser() -> str | None:
    """Path of the Chromium that Playwright downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def install() -> str:
    """Path of a browser, installed now if need be. Raises RuntimeError saying what to do."""
    found = system_browser() or playwright_browser()
    if found:
        return found
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("nanwatch: installing Chromium for the browser tests", file=sys.stderr, flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "chromium"],
        ):
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
        found = system_browser()
    if not found:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
        found = playwright_browser()
    if not found:
        raise RuntimeError(
            "no browser for the tests: install Chromium (for example `apt-get install chromium`) "
            "or set NANWATCH_TEST_BROWSER to the path of one"
        )
    return found


if __name__ == "__main__":
    path = install() if "--install" in sys.argv else system_browser()
    print(path or "no browser found")
