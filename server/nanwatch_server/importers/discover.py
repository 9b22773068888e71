"""What a path holds: the logs in it, each with the source that reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nanwatch_server.importers import csv
from nanwatch_server.importers.jsonl import JsonLines, is_export
from nanwatch_server.importers.parquet import LongParquet
from nanwatch_server.importers.source import (
    LineReader,
    NothingYetError,
    Options,
    Source,
    UnusableError,
)
from nanwatch_server.importers.tensorboard import NAME_PART, EventFolder, event_files
from nanwatch_server.importers.trainer_state import LogHistory

FILES_MAX = 20_000
DEPTH_MAX = 8
HEAD_BYTES = 1 << 16

_TABLES = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_PLAIN = frozenset(
    {"progress", "metrics", "history", "trainer_state", "log", "logs", "train", "training"}
    | {"output", "results", "events", "points", "data", "wandb-history"}
)
"""Names of files that say nothing: the folder's is the run's."""


@dataclass
class Found:
    """Sources, and why other files are none."""

    sources: list[Source] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def find(path: Path, options: Options | None = None) -> Found:
    """The runs under a path. Raises `UnusableError` if there is none, `NothingYetError` if one
    that is followed may still come."""
    options = options or Options()
    if not path.exists():
        raise UnusableError(f"expected a file or folder, found nothing at {path}")
    if not path.is_dir():
        return Found(_file(path, run_name(path), options))
    found = Found()
    for one in _candidates(path):
        inside = one.relative_to(path)
        name = run_name(one) if str(inside) == "." else run_name(one, str(inside))
        try:
            found.sources += _file(one, name, options)
        except (UnusableError, OSError) as error:
            found.passed_over.append(str(error))
    if not found.sources:
        why = f": {found.passed_over[0]}" if found.passed_over else ""
        error = NothingYetError if options.follow else UnusableError
        raise error(
            f"expected logs in {path} (*.jsonl, *.csv, event files of TensorBoard, "
            f"trainer_state.json), found none{why}"
        )
    return found


def run_name(path: Path, inside: str = "") -> str:
    """A name for the run: the file's without its endings, the folder's where that says nothing."""
    if path.is_dir():
        return inside or path.resolve().name
    stem = path.name
    for _ in range(2):
        known = (".gz", ".json", _PARQUET, *_TABLES, *_LINES)
        stem = Path(stem).stem if Path(stem).suffix in known else stem
    if NAME_PART in stem:
        return run_name(path.resolve().parent)
    if stem.lower() not in _PLAIN:
        return str(Path(inside).parent / stem) if inside else stem
    parent, within = path.resolve().parent, Path(inside).parent
    if _CHECKPOINT.fullmatch(parent.name):
        parent, within = parent.parent, within.parent
    return parent.name if str(within) == "." else str(within)


def _file(path: Path, name: str, options: Options) -> list[Source]:
    if path.is_dir() or NAME_PART in path.name:
        return [EventFolder(path, name, options)]
    if path.stat().st_size == 0 and not options.follow:
        raise UnusableError(f"{path.name} is empty")
    suffixes = [one.lower() for one in path.suffixes]
    if _PARQUET in suffixes:
        return [LongParquet(path, name, options)]
    if any(one in suffixes for one in _TABLES):
        return csv.sources(path, name, options)
    first = _first_line(path)
    if any(one in suffixes for one in _LINES):
        return [JsonLines(path, name, options, exact=is_export(first))]
    if first.startswith(("{", "[")):
        # One object over many lines is no line of JSON lines; neither is one with the whole log.
        whole = not first.rstrip().endswith("}") or '"log_history"' in first
        if whole or first.startswith("["):
            return [LogHistory(path, name, options)]
        return [JsonLines(path, name, options, exact=is_export(first))]
    return csv.sources(path, name, options)


def _first_line(path: Path) -> str:
    reader = LineReader(path)
    try:
        text = next((line for line in reader.lines(last=True) if line.strip()), "")
        if not text and reader.broken:
            raise UnusableError(reader.broken)
        return text.strip()
    finally:
        reader.close()


def _candidates(top: Path) -> list[Path]:
    """Files that may be logs, and folders with event files, in order of their paths."""
    chosen: list[Path] = []
    states: dict[Path, tuple[int, Path]] = {}
    for folder, files in _walk(top):
        if event_files(folder):
            chosen.append(folder)
        for file in files:
            suffixes = [one.lower() for one in file.suffixes]
            if file.name == "trainer_state.json":
                _newest_state(states, file)
            elif file.name == "progress.json" or any(
                one in suffixes for one in (_PARQUET, *_TABLES, *_LINES)
            ):
                chosen.append(file)
    return sorted([*chosen, *(path for _, path in states.values())])


def _newest_state(states: dict[Path, tuple[int, Path]], file: Path) -> None:
    """Every checkpoint of a training holds its log so far: the longest one is the run's."""
    number = _CHECKPOINT.fullmatch(file.parent.name)
    run = file.parent.parent if number else file.parent
    step = int(number[1]) if number else 1 << 62
    if run not in states or step > states[run][0]:
        states[run] = (step, file)


def _walk(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    seen = 0
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        depth = len(here.relative_to(top).parts)
        shown = sorted(one for one in folders if not one.startswith("."))
        folders[:] = shown if depth < DEPTH_MAX else []
        seen += len(files)
        if seen > FILES_MAX:
            raise UnusableError(f"expected at most {FILES_MAX} files in {top}: name one folder")
        yield here, [here / name for name in sorted(files) if not name.startswith(".")]
