"""Backups of a SQLite database: made while the server runs, verified, and put back.

A backup is one file of its own (`VACUUM INTO`: one moment of the database, without free pages) with
its SHA-256 beside it. Used by `nightly` and `nanwatch db backup | restore`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from nanwatch_server.domain.audit_chain import AUDITED, first_break
from nanwatch_server.store.base import StoreError
from nanwatch_server.store.lock import DirectoryLock
from nanwatch_server.store.sqlite import FILE_NAME

Progress = Callable[[str, int, int], None]
"""(what is done, so far, of)."""

PREFIX, SUFFIX = "nanwatch-", ".sqlite"
SPARE_BYTES = 64 << 20
"""Left free on the disk of the backups, so that a backup never fills it."""

BLOCK = 1 << 20


def make_backup(
    data_dir: Path, directory: Path, now: float, progress: Progress = lambda *_: None
) -> Path:
    """The verified backup. Raises `StoreError`; then nothing is left behind."""
    source = data_dir / FILE_NAME
    if not source.is_file():
        raise StoreError(f"expected a database in {data_dir}, found no {FILE_NAME}")
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        bytes_needed = size_of(source)
        free = shutil.disk_usage(directory).free
        if free < bytes_needed + SPARE_BYTES:
            raise StoreError(
                f"not enough room in {directory}: expected {bytes_needed + SPARE_BYTES:,} bytes, "
                f"{free:,} are free"
            )
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        target = directory / f"{PREFIX}{stamp}{SUFFIX}"
        part = target.with_suffix(".part")
        try:
            _copy(source, part, bytes_needed, progress)
            check(part, progress)
            summed = _sum(part, progress)
            _write_synced(_sum_file(target), f"{summed}  {target.name}\n")
            os.replace(part, target)
            _sync_directory(directory)
        finally:
            part.unlink(missing_ok=True)
            Path(f"{part}-journal").unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"no backup could be made in {directory}: {error}") from error
    return target


def backups(directory: Path) -> list[Path]:
    """Finished backups, oldest first."""
    return sorted(directory.glob(f"{PREFIX}*{SUFFIX}"))


def prune(directory: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep`; those that were deleted."""
    old = backups(directory)[:-keep] if keep else []
    for path in old:
        path.unlink(missing_ok=True)
        _sum_file(path).unlink(missing_ok=True)
    return old


def verify_backup(path: Path, progress: Progress = lambda *_: None) -> None:
    """Raises `StoreError` if the file is not what was backed up."""
    try:
        expected = _sum_file(path).read_text().split()[0]
    except (OSError, IndexError):
        expected = ""  # made by hand: the database itself is checked all the same
    if expected and _sum(path, progress) != expected:
        raise StoreError(f"{path} is not the file that was backed up: its SHA-256 is another one")
    check(path, progress)


def restore(path: Path, data_dir: Path, now: float, progress: Progress = lambda *_: None) -> Path:
    """Put a backup in the place of the database; where the old one lies now.

    Raises `StoreError`, for example while a server runs.
    """
    if not path.is_file():
        raise StoreError(f"expected a backup file, got {path}")
    verify_backup(path, progress)
    lock = DirectoryLock(data_dir)
    try:
        target = data_dir / FILE_NAME
        part = target.with_suffix(".restored")
        shutil.copyfile(path, part)
        part.chmod(0o600)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        aside = data_dir / f"before-restore-{stamp}"
        aside.mkdir(mode=0o700)
        # With its journal, without which it would be another database.
        for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
            with suppress(FileNotFoundError):
                os.replace(data_dir / name, aside / name)
        os.replace(part, target)
        _sync_directory(data_dir)
    except OSError as error:
        raise StoreError(f"{path} could not be restored: {error}") from error
    finally:
        lock.release()
    return aside


def check(path: Path, progress: Progress = lambda *_: None) -> None:
    """Integrity and audit chain of a database nobody writes. Raises `StoreError`."""
    progress("check", 0, 2)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            found = db.execute("PRAGMA integrity_check(3)").fetchall()
            if found != [("ok",)]:
                said = "; ".join(row[0] for row in found)
                raise StoreError(f"{path} is damaged: {said[:500]}")
            progress("check", 1, 2)
            names = ("n", *AUDITED, "hash")
            rows = db.execute(f"SELECT {', '.join(names)} FROM audit ORDER BY n")
            audit = (dict(zip(names, row, strict=True)) for row in rows)
            broken = first_break({"id": row["n"], **row} for row in audit)
    except sqlite3.Error as error:
        raise StoreError(f"{path} is not a database of nanwatch: {error}") from error
    if broken is not None:
        raise StoreError(f"{path}: the audit chain is broken at row {broken}")
    progress("check", 2, 2)


def vacuum(data_dir: Path) -> tuple[int, int]:
    """Write the database anew without free pages; bytes before and after. Raises `StoreError`."""
    path = data_dir / FILE_NAME
    if not path.is_file():
        raise StoreError(f"expected a database in {data_dir}, found no {FILE_NAME}")
    lock = DirectoryLock(data_dir)
    try:
        needed = size_of(path) * 2
        free = shutil.disk_usage(data_dir).free
        if free < needed:
            raise StoreError(f"not enough room: expected {needed:,} bytes, {free:,} are free")
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = path.stat().st_size
            # Files of the first version could not shrink by themselves; from now on they do.
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, path.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the database could not be written anew: {error}") from error
    finally:
        lock.release()


def size_of(source: Path) -> int:
    """Bytes of the pages in use: about what a backup takes."""
    with closing(_reader(source)) as db:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


def _reader(source: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30.0)


def _copy(source: Path, part: Path, total: int, progress: Progress) -> None:
    part.unlink(missing_ok=True)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            with suppress(OSError):
                progress("copy", min(part.stat().st_size, total), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with closing(_reader(source)) as db:
            db.execute("VACUUM INTO ?", (str(part),))
    finally:
        done.set()
        watcher.join()
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    progress("copy", total, total)


def _sum(path: Path, progress: Progress) -> str:
    total, read, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            read += len(block)
            progress("sha256", read, total)
    return digest.hexdigest()


def _sum_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
