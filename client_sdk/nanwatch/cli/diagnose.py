"""`nanwatch diagnose`: looks into a checkpoint, says what is wrong with it and what to try.

Files are only opened in a child process (`forensics.checkpoint.parent`); this one prints.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nanwatch.cli.output import console, fail


class Format(StrEnum):
    """How the report is printed."""

    TEXT = "text"
    JSON = "json"


UNUSABLE = 2


def diagnose(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A file (.pt .pth .ckpt .bin .safetensors) or a folder of transformers.",
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="EARLIER", help="An earlier checkpoint: what changed, what did not."),
    ] = None,
    script: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="One forward and one backward pass with your model, see below. RUNS YOUR CODE.",
        ),
    ] = "",
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Handed to the factory, e.g. timesteps=32."),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, max=1000, help="Backward passes of --script, on fresh losses.")
    ] = 1,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE.NAME", help="A class that the file may make objects of. Only data!"
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = (
        Format.TEXT
    ),
    top: Annotated[int, typer.Option(min=1, help="Rows of each table.")] = 8,
) -> None:
    """Say what is wrong with a checkpoint: weights, buffers, optimizer, what changed, what to try.

    The file is opened in a process of its own with little memory and time, no network and no right
    to write, and only tensors are read from it (weights_only): code in it is never run.

    --script module:factory (or file.py:factory) runs YOUR code in a process without these limits,
    from the current directory: factory() or factory(checkpoint) returns (model, loss_fn), where
    loss_fn(model) computes a loss of one batch, or a callable that computes it. Without the
    argument the weights are loaded into the model for you.

    Exit code: 0 nothing critical, 1 critical findings, 2 it cannot be looked at.
    """
    from nanwatch.cli.diagnose_view import as_json, show
    from nanwatch.forensics.checkpoint import parent
    from nanwatch.forensics.checkpoint.facts import BackwardFacts, Job
    from nanwatch.forensics.checkpoint.formats import Unusable
    from nanwatch.forensics.checkpoint.judge import judge

    job = Job(str(checkpoint), str(against or ""), list(allow or []))
    backward: BackwardFacts | None = None
    try:
        _exists(checkpoint, against)
        with _progress() as show_progress:
            facts = parent.look(job, show_progress)
            if script:
                job.script, job.arguments, job.repeat = script, _arguments(arg or []), repeat
                job.directory = str(Path.cwd())
                backward = parent.run(job, show_progress)
    except Unusable as error:
        if output is Format.JSON:
            print(json.dumps({"file": str(checkpoint), "verdict": "unusable", "text": str(error)}))
            raise SystemExit(UNUSABLE) from error
        fail(str(error), UNUSABLE)
    verdict = judge(facts, backward)
    if output is Format.JSON:
        print(json.dumps(as_json(facts, verdict, backward), allow_nan=False))
    else:
        show(facts, verdict, backward, top)
    raise SystemExit(1 if verdict.verdict == "critical" else 0)


def _exists(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            fail(f"there is no {path}", UNUSABLE)
        if path is not None and not (path.is_file() or path.is_dir()):
            fail(f"expected a file or a folder, got {path}, which is neither", UNUSABLE)


def _arguments(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            fail(f"expected --arg KEY=VALUE, got {text!r}", UNUSABLE)
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


@contextmanager
def _progress() -> Iterator[Callable[[Any], None]]:
    """A bar on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(progress: Any) -> None:
            total = progress.total if progress.total > 1 else None
            bar.update(task, description=progress.text, completed=progress.done, total=total)

        yield update
