"""Makes `docs/run-page.png` from the real page: real server, real `sac` training, real Chromium.

Run it with the project's environment: `.venv/bin/python docs/screenshot.py`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from e2e.browser import ARGUMENTS, install  # noqa: E402
from nanwatch.cli.local_server import LocalServer, environment  # noqa: E402


def main() -> None:
    """Let the training run into trouble, lower its LR by a click, take the picture."""
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        server = LocalServer(Path(directory), 0)
        training = subprocess.Popen(
            [sys.executable, str(ROOT / "scenarios" / "sac.py"), "--steps-per-second", "45"],
            env={**environment(server), "NANWATCH_RUN_NAME": "sac-thermal-plant"},
            stdout=subprocess.DEVNULL,
        )
        try:
            chromium = playwright.chromium.launch(executable_path=install(), args=ARGUMENTS)
            page = chromium.new_page(viewport={"width": 1440, "height": 1500})
            page.goto(server.login_url)
            page.locator('[data-testid^="tile-"]').first.click()
            page.get_by_test_id("incident-banner").wait_for(timeout=60_000)
            page.wait_for_timeout(8_000)
            page.get_by_test_id("button-scale-lr-0.1").click()
            page.get_by_test_id("confirm").click()
            page.locator('[data-state="verified"]').wait_for(timeout=60_000)
            run = page.url.rsplit("/", 1)[1].split("?")[0]
            page.wait_for_timeout(6_000)
            print(f"picture of run {run}")
            page.screenshot(path=str(ROOT / "docs" / "run-page.png"))
            chromium.close()
        finally:
            training.terminate()
            training.wait()
            server.stop()


if __name__ == "__main__":
    main()
