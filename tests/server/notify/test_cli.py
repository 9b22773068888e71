"""`nanwatch notify` as a user types it, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.server.notify.kit import free_port


def nanwatch(data_dir, *arguments, typed=""):
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env={**os.environ, "NANWATCH_DATA_DIR": str(data_dir), "COLUMNS": "200"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_add_list_test_remove(start, data_dir, hook):
    start(allow_local_webhooks=True)
    added = nanwatch(data_dir, "notify", "add", "team", "-", typed=hook.url + "\n")
    assert added.returncode == 0, added.stderr
    assert added.stdout.startswith("whsec_"), "only the key is on standard output"
    again = nanwatch(data_dir, "notify", "add", "team", hook.url)
    assert again.returncode == 1 and "there is a channel 'team' already" in again.stderr
    dead = f"json://127.0.0.1:{free_port()}/x"
    assert nanwatch(data_dir, "notify", "add", "dead", dead, "--critical").returncode == 0
    assert nanwatch(data_dir, "notify", "list").stdout.splitlines() == [
        "team  Signed webhook  http://127.0.0.1/…",
        "  every project, caution and critical",
        "dead  JSON  json://127.0.0.1/…",
        "  every project, critical only",
    ]
    done = nanwatch(data_dir, "notify", "test", "team")
    assert done.returncode == 0 and "delivered after" in done.stderr, done
    assert hook.bodies[0]["event"] == "test"
    done = nanwatch(data_dir, "notify", "test", "dead")
    assert done.returncode == 1 and "not delivered: " in done.stderr
    assert nanwatch(data_dir, "notify", "remove", "team").returncode == 0
    gone = nanwatch(data_dir, "notify", "remove", "team")
    assert gone.returncode == 1 and "there are: dead" in gone.stderr
