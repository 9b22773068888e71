"""`nanwatch check RUN_ID | --last N`: the rules over stored runs, with other limits. Called by
`check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nanwatch.cli.check_text import STYLES, show_verdict
from nanwatch.cli.export import chosen, engine_of
from nanwatch.cli.output import console, fail, progress_bar
from nanwatch.config import data_directory

LAST = 10
UNUSABLE = 2


def check_stored(
    out: Console,
    run_ids: list[str],
    last: int,
    project: str,
    thresholds: dict[str, dict[str, Any]] | None,
    data_dir: Path | None,
    *,
    as_json: bool,
) -> int:
    """Judge, print; the exit code."""
    from nanwatch_server.backtest import stored
    from nanwatch_server.store.base import StoreError
    from nanwatch_server.store.ordered import moment

    directory = (data_dir or data_directory()).expanduser()
    try:
        with engine_of(directory) as engine, moment(engine) as reads:
            if run_ids:
                runs = [chosen(reads, one) for one in run_ids]
            else:
                runs = stored.last_runs(reads, project, min(last or LAST, stored.LAST_MOST))
            if not runs:
                where = f"project {project}" if project else str(directory)
                fail(f"there is no run in {where}", UNUSABLE)
            with progress_bar() as bar:
                task = bar.add_task("judging runs", total=len(runs))
                found = []
                for one in stored.replay_runs(reads, runs, thresholds):
                    found.append(one)
                    bar.advance(task)
    except StoreError as error:
        fail(str(error), UNUSABLE)
    if as_json:
        plain = stored.plain(found)
        one_run = len(run_ids) == 1
        said = found[0].verdict.plain() if one_run else plain
        print(json.dumps(said, ensure_ascii=False, allow_nan=False))
    elif len(run_ids) == 1:
        one = found[0]
        steps = f"steps {one.verdict.first_step} to {one.verdict.last_step}"
        about = f"{one.run.project} · {one.run.id} · {steps} · {one.verdict.points:,} points"
        show_verdict(out, one.run.name, about, one.verdict, one.trial.traces)
        out.print(Text(stored.sentence(found), style="bold"))
    else:
        _table(out, found)
        out.print(Text(stored.sentence(found), style="bold"))
    dropped = sum(one.dropped for one in found)
    if dropped:
        what = f"{dropped:,} points were dropped by retention, so the rules could not see them"
        console.print(f"nanwatch: {what}", markup=False, soft_wrap=True)
    worst = max((one.verdict.worst or 0 for one in found), default=0)
    return 1 if worst >= 3 else 0


def _table(out: Console, found: list[Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("run", "would have fired", "told at step", "incidents it has"):
        table.add_column(name, overflow="fold")
    for one in found:
        fired = Text()
        for incident in one.fired:
            word = incident.severity.word
            fired.append(f"{incident.diagnosis.syndrome} ", STYLES[word])
        table.add_row(
            f"{one.run.project}/{one.run.name} ({one.run.id[:8]})",
            fired or Text("-", style="dim"),
            ", ".join(str(incident.fired_step) for incident in one.fired),
            str(len(one.before)),
        )
    out.print(table)
