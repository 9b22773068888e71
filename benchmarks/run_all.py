"""`make bench`: runs every benchmark in turn and writes docs/benchmarks.md.

A benchmark is a file here with a function `main`; its last line is JSON. One that fails or misses
its target does not stop the others, and the page says so. Where only some are run, the page keeps
what it says of the others.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
LIMIT_S = 3_600.0
PACE_TURNS = 2_000_000

INTRODUCTION = """\
# Benchmarks

Written by `make bench`. These are figures of one machine at one time; ratios between rows of one
run are what holds elsewhere. Each benchmark is a file in `benchmarks/`, which
says what it measures and how; `--quick` makes it short. Peers are measured in the same run where
they are installed (`pip install 'nanwatch[bench]'`, or `NANWATCH_BENCH_MLFLOW_PYTHON` for an
MLflow in an environment of its own). *Pace* is how many million turns of an empty Python loop the
machine made a second just before: machines that are shared may halve it from one minute to the
next, and figures of two runs compare only at the same pace. `make bench BENCH_ARGS=latency`
measures one anew and leaves the others as they are.
"""
COLUMNS = ("Benchmark", "What", "Value", "Unit", "Target", "Met", "Pace", "Measured", "Versions")


def benchmarks() -> list[Path]:
    """Files that can be run, this one excepted."""
    return [
        path
        for path in sorted(HERE.glob("*.py"))
        if path != Path(__file__).resolve() and re.search(r"^def main\(", path.read_text(), re.M)
    ]


def _system() -> str:
    """Linux 6.18, say: the rest of a release may name the machine's builder."""
    release = re.match(r"\d+(\.\d+)?", platform.release())
    return f"{platform.system()} {release[0] if release else ''}".strip()


def machine() -> str:
    """The machine in words, without its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [f"{cores} cores", platform.machine(), _system()]
    info = Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*: (.*)", info.read_text())):
        words.insert(1, model[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        words.insert(1, f"{size / 2**30:.0f} GiB")
    if hasattr(os, "getloadavg"):
        words.append(f"load {os.getloadavg()[0]:.1f} when the run began")
    return ", ".join(words)


def pace() -> float:
    """Million turns a second of an empty loop, the best of five."""
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(PACE_TURNS):
            pass
        best = max(best, PACE_TURNS / (time.perf_counter() - began))
    return best / 1e6


def measure(path: Path, options: list[str]) -> tuple[dict[str, Any] | None, str]:
    """(closing line, table); None if it failed. Shows what it prints as it comes."""
    lines: list[str] = []
    process = subprocess.Popen(
        [sys.executable, str(path), *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    until = time.monotonic() + LIMIT_S
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.rstrip())
        if time.monotonic() > until:
            process.kill()
    if process.wait() or not lines:
        return None, "\n".join(lines)
    try:
        return json.loads(lines[-1]), "\n".join(lines[:-1])
    except json.JSONDecodeError:
        return None, "\n".join(lines)


def number(value: float) -> str:
    """As few digits as say it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def rows(name: str, found: dict[str, Any] | None, speed: float, when: str) -> list[str]:
    """Lines of the table for one benchmark; `speed` is the machine's pace before it."""
    if found is None:
        return [f"| {name} | failed | | | | no | {speed:.0f} | {when} | |"]
    versions = ", ".join(f"{name} {what}" for name, what in found.get("versions", {}).items())
    lines = []
    also = found.get("also", [])
    # `ok` of the closing line is for all figures together; each row says its own.
    own = found.get("own_ok", found["ok"])
    for one, ok in [(found, own), *((other, other["ok"]) for other in also)]:
        target = f"{number(one['value'])} | {one['unit']} | {number(one['target'])}"
        what, met = one["name"].removeprefix(f"{name}: "), "yes" if ok else "no"
        lines.append(f"| {name} | {what} | {target} | {met} | {speed:.0f} | {when} | {versions} |")
        versions = ""
    return lines


class Entry(NamedTuple):
    """What the page says of one benchmark."""

    table: list[str]
    details: str


def entries(page: str) -> dict[str, Entry]:
    """Benchmark → what a page says of it."""
    _, *sections = re.split(r"^## (\w+)\.py$", page, flags=re.M)
    lines = page.splitlines()
    return {
        name: Entry([line for line in lines if line.startswith(f"| {name} |")], text.strip())
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def main_page(found: dict[str, Entry]) -> str:
    """The whole of docs/benchmarks.md."""
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    table = [line for name in sorted(found) for line in found[name].table]
    details = [f"## {name}.py\n\n{found[name].details}\n" for name in sorted(found)]
    return "\n".join([INTRODUCTION, *head, *table, "", *details])


def run() -> int:
    """Run all, write the page; 1 if one failed."""
    known = {path.stem: path for path in benchmarks()}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="each in less than 40 s")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; known: {', '.join(known)}")
    options, named = ["--quick"] if given.quick else [], set(given.names)
    chosen = {name: path for name, path in known.items() if not named or name in named}
    page = entries(PAGE.read_text()) if named and PAGE.exists() else {}
    date, failed = datetime.datetime.now(datetime.UTC).date().isoformat(), []
    when, about = f"{date}, {'quick' if given.quick else 'full'}", machine()
    for name, path in chosen.items():
        print(f"== {path.name}", flush=True)
        speed = pace()
        found, text = measure(path, options)
        if found is None:
            failed.append(path.name)
        details = f"{when} run, {about}.\n\n```\n{text}\n```"
        page[name] = Entry(rows(name, found, speed, when), details)
    PAGE.write_text(main_page(page).rstrip() + "\n")
    print(f"written: docs/{PAGE.name}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(run())
