"""`nanwatch sync`: sends what runs kept on disk while they had no server."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from nanwatch.cli.output import console, fail
from nanwatch.cli.target import Target, target_of
from nanwatch.config import data_directory
from nanwatch.link.box import Box, boxes, describe

FOLLOW_S = 1.0


def sync(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR|RUN",
            help="A data or spool directory, or the id or name of a run. Default: all of them.",
        ),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Address. Default: NANWATCH_URL.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: NANWATCH_TOKEN.")] = None,
    follow: Annotated[
        bool, typer.Option(help="Stay with runs that work offline until they end.")
    ] = False,
    keep: Annotated[bool, typer.Option(help="Leave on disk what the server has stored.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only list what waits.")] = False,
) -> None:
    """Send what runs kept on disk: after their death, or while they work offline.

    Exactly once, however often it is called: the server knows what it has.
    """
    found = _chosen(what)
    if not found:
        console.print("nanwatch: nothing waits to be sent")
        return
    listed = [(box, describe(box)) for box in found]
    if dry_run:
        for box, about in listed:
            console.print(_line(box, about), soft_wrap=True, markup=False)
        return
    target = target_of(server, token)
    failed = 0
    for box, about in listed:
        if about["alive"] and about["mode"] != "offline":
            console.print(f"{_name(about)}: still runs and sends by itself", markup=False)
        elif not _send(box, about, target, follow=follow, keep=keep):
            failed += 1
    if failed:
        fail(f"{failed} of {len(listed)} could not be sent; they stay where they are")


def _chosen(what: str | None) -> list[Box]:
    if what is None:
        return boxes(data_directory())
    path = Path(what).expanduser()
    if path.is_dir():
        if (path / "hello.msgpack").is_file() or list(path.glob("*.seg")):
            return [Box(path)]
        if (path / "spool").is_dir() or path.name == "spool":
            return boxes(path.parent if path.name == "spool" else path)
    # Results often lie in a directory of the run's name.
    everything = [(box, box.hello()) for box in boxes(data_directory())]
    named = [
        box
        for box, hello in everything
        if hello is not None
        and (hello.run.name == what or (len(what) >= 6 and hello.run.id.startswith(what)))
    ]
    if not named:
        known = ", ".join(sorted({hello.run.name for _, hello in everything if hello})) or "nothing"
        fail(f"expected a directory, or the id or name of a run that waits ({known}); got {what!r}")
    return named


def _name(about: dict[str, Any]) -> str:
    return f"{about['project']}/{about['name']} ({about['run'][:8]})"


def _line(box: Box, about: dict[str, Any]) -> str:
    state = "killed"
    if about["alive"]:
        state = "runs offline" if about["mode"] == "offline" else "runs, sends by itself"
    elif about["end"] is not None:
        state = about["end"].reason.partition("\n")[0][:60] or "ended"
    return f"{_name(about):40} {about['bytes'] / 1e6:9.2f} MB  {state}  {box.directory}"


def _send(box: Box, about: dict[str, Any], target: Target, *, follow: bool, keep: bool) -> bool:
    from nanwatch.link.connection import Refused
    from nanwatch.link.upload import Upload, UploadError

    bar = _Bar(_name(about), about["bytes"])
    try:
        with box.lock as lock:
            if not lock.take():
                console.print(f"{_name(about)}: another sync is at it", markup=False)
                return True
            upload = Upload(box, target.url, target.token, keep=keep, progress=bar.show)
            sent = upload.run(follow_s=FOLLOW_S if follow else 0.0)
    except (UploadError, Refused, OSError) as error:
        bar.end(f"not sent: {error}")
        return False
    except KeyboardInterrupt:
        bar.end("interrupted; what is stored is stored")
        raise
    except Exception as error:  # the library's own errors of a broken line
        bar.end(f"not sent: {type(error).__name__}: {error}")
        return False
    notes = [f"{sent.frames} frames, {sent.bytes / 1e6:.2f} MB"]
    if sent.gaps:
        notes.append(f"{sent.gaps} records were lost before and are marked as gaps")
    if sent.damaged:
        notes.append(f"{sent.damaged} damaged bytes passed over")
    if sent.foreign:
        notes.append(f"segments of another run set aside: {', '.join(sent.foreign)}")
    notes += [f"refused: {why}" for why in sent.rejected[:3]]
    if not sent.complete:
        notes.append("the run goes on; --follow stays with it")
    bar.end("; ".join([*notes, sent.url]))
    return True


class _Bar:
    """Progress on a terminal; one line for each run elsewhere."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, max(total, 1)
        self._drawn_at = 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, read: int) -> None:
        """Draw at most ten times a second."""
        now = time.monotonic()
        if not self._terminal or now - self._drawn_at < 0.1:
            return
        self._drawn_at = now
        share = min(read / self._total, 1.0)
        bar = ("#" * round(24 * share)).ljust(24)
        sys.stderr.write(f"\r{self._name} [{bar}] {100 * share:3.0f} %  {read / 1e6:.1f} MB")
        sys.stderr.flush()

    def end(self, text: str) -> None:
        """The last line of this run."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
        console.print(f"{self._name}: {text}", soft_wrap=True, markup=False)
