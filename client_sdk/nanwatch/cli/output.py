"""What the commands print: progress, links and errors that say what to do. Used by the CLI only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

console = Console(stderr=True, highlight=False)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print an error and leave."""
    # Never as markup: paths and logs in a message hold brackets of their own.
    console.print(Text.assemble(("nanwatch:", "bold red"), f" {message}"), soft_wrap=True)
    raise SystemExit(code)


def busy(text: str, quiet: bool = False) -> AbstractContextManager[object]:
    """A spinner while something takes time; one plain line where there is no terminal."""
    if quiet:
        return open(os.devnull)
    if not sys.stderr.isatty():
        console.print(f"nanwatch: {text} …", soft_wrap=True)
        return open(os.devnull)
    return console.status(text + " …")


def progress_bar() -> Any:
    """A bar with speed and time left, on stderr; nothing where there is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def byte_bar(text: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Progress over so many bytes, on stderr; nothing where there is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    ) as bar:
        task = bar.add_task(text, total=max(total, 1))
        yield lambda done, of=None: bar.update(task, completed=done, total=of)


def server_part_missing(error: ImportError) -> NoReturn:
    """Say what to install; a missing module of ours is a bug and raised again."""
    if (error.name or "").startswith("nanwatch"):
        raise error
    fail(
        f"the server part is not installed ({error.name} is missing): "
        "pip install 'nanwatch[server]'"
    )


def program() -> str:
    """How a person calls this program from where they are."""
    if shutil.which("nanwatch"):
        return "nanwatch"
    path = os.path.relpath(os.path.join(os.path.dirname(sys.executable), "nanwatch"))
    return path if os.path.exists(path) else "python -m nanwatch"


def has_desktop() -> bool:
    """True where opening a browser makes sense."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("CI"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
