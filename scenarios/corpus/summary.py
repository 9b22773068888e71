"""What the corpus holds, as the table of docs/corpus.md: `python -m scenarios.corpus.summary`.

One row a cause and a family, by halves; labels are those of the recorded traces. Tells how many,
and nothing of what any rule says.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from scenarios.corpus import traces
from scenarios.corpus.labels import label


class Row(NamedTuple):
    """One recorded run."""

    sick: bool
    group: str
    name: str
    half: str
    kind: str


def rows() -> list[Row]:
    """Every recorded run."""
    found: list[Row] = []
    for name in traces.names():
        for trace in traces.load(name):
            about = trace.about
            group = about.cause if about.sick else about.family
            kind = label(trace).kind
            found.append(Row(about.sick, group, name, traces.half(name), kind))
    return found


def table(found: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| Meant to be | Cause or family | Programs (tuned, scored) | Runs (tuned, scored) "
        "| Left out |",
        "|---|---|---|---|---|",
    ]
    for sick in (True, False):
        side = [row for row in found if row.sick == sick]
        for group in sorted({row.group for row in side}):
            lines.append(_line("sick" if sick else "healthy", group, side, group))
        lines.append(_line(f"**{'sick' if sick else 'healthy'}**", "", side, None))
    return "\n".join(lines)


def _line(side: str, title: str, found: list[Row], group: str | None) -> str:
    mine = [row for row in found if group in (None, row.group)]
    programs = {half: len({r.name for r in mine if r.half == half}) for half in traces.HALVES}
    counted = Counter(row.half for row in mine if row.kind != "left out")
    runs = {half: counted[half] for half in traces.HALVES}
    left = sum(row.kind == "left out" for row in mine)
    return f"| {side} | {title} | {_both(programs)} | {_both(runs)} | {left or ''} |"


def _both(counts: dict) -> str:
    return f"{sum(counts.values())} ({', '.join(str(counts[half]) for half in traces.HALVES)})"


def main() -> None:
    """Print it."""
    size = sum(path.stat().st_size for path in traces.HERE.glob("*.trace"))
    print(table(rows()))
    print(f"\nTraces: {size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
