"""Target 13: `import nanwatch` over a bare interpreter, at most 50 ms. Fresh processes, median."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

TARGET_MS = 50.0


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    rounds = 7 if parser.parse_args().quick else 25
    cases = {
        "bare interpreter": "pass",
        "import nanwatch": "import nanwatch",
        "nanwatch.init known": "import nanwatch; nanwatch.init",
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):  # in turn, so that a drifting machine hits all alike
        for name, code in cases.items():
            times[name].append(seconds(code) * 1e3)
    print(f"{'':22}{'median ms':>10}{'min':>8}{'max':>8}{'over bare':>11}")
    bare = statistics.median(times["bare interpreter"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:22}{median:10.1f}{min(found):8.1f}{max(found):8.1f}{median - bare:11.1f}")
    value = statistics.median(times["import nanwatch"]) - bare
    print(
        json.dumps(
            {
                "name": "import_time",
                "value": round(value, 1),
                "unit": "ms",
                "target": TARGET_MS,
                "ok": value <= TARGET_MS,
                "versions": {"python": platform.python_version()},
            }
        )
    )


if __name__ == "__main__":
    main()
