"""`nanwatch demo`: a server and a real training that goes wrong in front of you.

`--check` is the smoke test for users: no browser, own port and data directory, one JSON line.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nanwatch.cli.local_server import Browser, LocalServer, environment, points_in
from nanwatch.cli.output import busy, console, fail, has_desktop, program
from nanwatch.cli.serve import PORT
from nanwatch.config import data_directory

CHECK_TIMEOUT_S = 110.0
PACE_STEPS_PER_S = 40
SERIES_PER_QUERY = 200


def scenario_directory() -> Path:
    """Where the scenarios lie: beside the SDK in a checkout, or in the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "scenarios"
    if (checkout / "sac.py").is_file():
        return checkout
    spec = importlib.util.find_spec("nanwatch_scenarios")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return fail("the scenarios are not part of this installation")


def demo(
    scenario: Annotated[str, typer.Argument(help="sac, gru, ssm, rollout or replay.")] = "sac",
    healthy: Annotated[bool, typer.Option(help="Run the cured variant: nothing happens.")] = False,
    check: Annotated[
        bool, typer.Option(help="Smoke test: wait for the incident, lower the LR, verify, leave.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: one JSON line.")] = False,
    port: Annotated[int, typer.Option(help="Port of the server; 0 takes a free one.")] = PORT,
    steps_per_second: Annotated[
        float, typer.Option(help="Pace of the training, so that one can watch; 0 is full speed.")
    ] = PACE_STEPS_PER_S,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = None,
) -> None:
    """Start a server and a real training that goes wrong, and print the link to watch it."""
    script = scenario_directory() / f"{scenario}.py"
    known = runpy.run_path(str(script.parent / "__init__.py"))["SCENARIOS"]
    if scenario not in known:
        fail(f"no scenario {scenario!r}: expected one of {', '.join(known)}")
    if importlib.util.find_spec("torch") is None:
        fail("the demo trains a real network and needs PyTorch: pip install torch")
    command = [sys.executable, str(script), "--steps-per-second", str(steps_per_second)]
    if healthy:
        command.append("--healthy")
    if check:
        raise SystemExit(_check(command, as_json))
    about = known[scenario]
    cured = ", cured" if healthy else ""
    console.print(
        f"[bold]{scenario}[/]{cured} (incident {about.incident}): {about.summary}", soft_wrap=True
    )
    _watch(command, port, open_page)


def _watch(command: list[str], port: int, open_page: bool | None) -> None:
    with busy("starting the server"):
        server = _start(data_directory() / "demo", port)
    training = None
    try:
        console.print(f"[bold]Open once:[/] {server.login_url}", soft_wrap=True)
        console.print(
            f"  another link:  {program()} login --data-dir {server.data_dir}\n"
            f"  server log:    {server.log_path}\n"
            "Training starts now; Ctrl-C ends both.\n",
            soft_wrap=True,
        )
        if open_page or (open_page is None and has_desktop()):
            webbrowser.open(server.login_url)
        training = subprocess.Popen(command, env=environment(server), start_new_session=True)
        code = training.wait()
        console.print(
            f"\nThe training has ended (exit {code}). The page stays at {server.url} "
            "until you press Ctrl-C.",
            soft_wrap=True,
        )
        server.process.wait()
    except KeyboardInterrupt:
        console.print("\nnanwatch: ending")
    finally:
        if training is not None and training.poll() is None:
            training.terminate()
            training.wait(10)
        server.stop()


def _start(data_dir: Path, port: int) -> LocalServer:
    """The demo's server, on another port if the wanted one is taken."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = 0
    return LocalServer(data_dir, port)


# --- check -------------------------------------------------------------------------------------


@dataclass
class Checked:
    """What the smoke test found; `error` names the first part that failed."""

    incident: dict[str, Any] | None = None
    command: dict[str, Any] | None = None
    points_stored: int = 0
    error: str = ""


def _check(command: list[str], as_json: bool) -> int:
    started = time.monotonic()
    deadline = started + CHECK_TIMEOUT_S
    found = Checked()
    with tempfile.TemporaryDirectory(prefix="nanwatch-check-") as directory:
        server = LocalServer(Path(directory) / "data", 0)
        log_path = Path(directory) / "training.log"
        with open(log_path, "wb") as log:
            training = subprocess.Popen(command, env=environment(server), stdout=log, stderr=log)
        try:
            _follow(Browser(server.url, server.login_url), training, deadline, found)
        except (RuntimeError, OSError) as error:
            found.error = str(error)
        finally:
            if training.poll() is None:
                training.terminate()
                training.wait(10)
            server.stop()
        if found.error:
            tail = log_path.read_text(errors="replace")[-600:]
            console.print(f"training log ends with:\n{tail}", soft_wrap=True, markup=False)
    seconds = round(time.monotonic() - started, 1)
    _report(found, seconds, as_json)
    return 1 if found.error else 0


def _follow(
    browser: Browser, training: subprocess.Popen[bytes], deadline: float, found: Checked
) -> None:
    def until(what: str, look: Callable[[], Any]) -> Any:
        with busy(f"waiting for {what}"):
            while time.monotonic() < deadline:
                seen = look()
                if seen:
                    return seen
                if training.poll() is not None and not look():
                    raise RuntimeError(f"the training ended (exit {training.poll()}) before {what}")
                time.sleep(0.2)
        raise RuntimeError(f"no {what} within {CHECK_TIMEOUT_S:.0f} s")

    run = until("the run", lambda: browser.get("/api/runs")["runs"])[0]["id"]
    incident = until("the incident", lambda: _worst(browser, run))
    found.incident = {
        key: incident[key]
        for key in ("id", "syndrome", "severity", "title", "onset_step", "fired_step")
    }
    sent = browser.post(
        f"/api/runs/{run}/commands",
        {"kind": "scale_lr", "args": {"factor": 0.1}, "incident_id": incident["id"]},
    )

    def verified() -> dict[str, Any] | None:
        listed = browser.get(f"/api/runs/{run}/commands")["commands"]
        seen = next(c for c in listed if c["id"] == sent["id"])
        found.command = {"state": seen["state"], "applied_step": seen["applied_step"]}
        if seen["state"] in ("rejected", "failed", "expired", "cancelled", "superseded"):
            raise RuntimeError(f"scale_lr 0.1 ended as {seen['state']}: {seen['message']}")
        return seen if seen["state"] == "verified" else None

    until("the command to be verified", verified)
    ids = [str(series["id"]) for series in browser.get(f"/api/runs/{run}")["series"]]
    for low in range(0, len(ids), SERIES_PER_QUERY):
        some = ",".join(ids[low : low + SERIES_PER_QUERY])
        frame = browser.get_bytes(f"/api/runs/{run}/series?ids={some}&buckets=10")
        found.points_stored += points_in(frame)
    if found.points_stored == 0:
        raise RuntimeError("no point was stored")


def _worst(browser: Browser, run: str) -> dict[str, Any] | None:
    incidents = browser.get(f"/api/runs/{run}/incidents")["incidents"]
    serious = [i for i in incidents if i["severity"] in ("warning", "critical")]
    return serious[0] if serious else None


def _report(found: Checked, seconds: float, as_json: bool) -> None:
    line = {
        "ok": not found.error,
        "incident": found.incident,
        "command": found.command,
        "points_stored": found.points_stored,
        "seconds": seconds,
    }
    if found.error:
        line["error"] = found.error
    if as_json:
        print(json.dumps(line))
        return
    if found.error:
        console.print(f"[bold red]check failed:[/] {found.error}", soft_wrap=True)
        return
    assert found.incident is not None and found.command is not None
    console.print(
        f"[bold]check passed[/] in {seconds} s: {found.incident['title']!r} seen at step "
        f"{found.incident['fired_step']}, LR ×0.1 applied at step "
        f"{found.command['applied_step']} and verified, {found.points_stored} points stored",
        soft_wrap=True,
    )
