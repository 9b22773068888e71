"""The process that opens a checkpoint: `python -m nanwatch.forensics.checkpoint.child`.

Takes one `Job` on its standard input and answers with messages on what was its standard output,
each behind its length. Limits itself before it opens anything, unless user code is to run.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import BinaryIO

import msgspec

from nanwatch.forensics.checkpoint import limits
from nanwatch.forensics.checkpoint.facts import Job, Message, Progress, Ran, Read, Refusal
from nanwatch.forensics.checkpoint.formats import Parts, Unusable, parts
from nanwatch.forensics.checkpoint.opening import prepare
from nanwatch.forensics.checkpoint.reading import Checkpoint, read

PROGRESS_S = 0.1


class Line:
    """To the parent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._said_at = 0.0

    def send(self, message: Message) -> None:
        """One message."""
        data = msgspec.msgpack.encode(message)
        self._file.write(len(data).to_bytes(8, "little") + data)
        self._file.flush()

    def progress(self, text: str, done: int, total: int) -> None:
        """At most ten times a second."""
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_S:
            self._said_at = now
            self.send(Progress(text, done, total))


def main() -> None:
    """Serve one job."""
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    # Whatever a library or the user's code prints must not come between the messages.
    line = Line(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        line.send(_run(job, line))
    except Unusable as error:
        line.send(Refusal(str(error)))
    except MemoryError:
        line.send(Refusal(f"{Path(job.path).name} needs more memory than its size allows for"))
    except Exception as error:
        line.send(Refusal(f"{Path(job.path).name} cannot be read: {type(error).__name__}: {error}"))


def _run(job: Job, line: Line) -> Message:
    warnings.simplefilter("ignore")
    line.send(Progress("loading torch", 0, 1))
    now = Path(job.path)
    sources = [(now, parts(now))]
    if job.against:
        sources.append((Path(job.against), parts(Path(job.against))))
    allowing = prepare(job.allow)
    if job.script:
        from nanwatch.forensics.checkpoint.backward import run_script

        with allowing:
            opened = Checkpoint(*sources[0]).open(line.progress)
        return Ran(run_script(job, opened, line.progress))
    held = limits.limit(sum(_bytes(found) for _, found in sources))
    with allowing:
        opened = [Checkpoint(path, found).open(line.progress) for path, found in sources]
        facts = read(opened[0], opened[1] if job.against else None, line.progress)
    facts.limits = held
    return Read(facts)


def _bytes(found: Parts) -> int:
    return sum(part.path.stat().st_size for part in found.files)


if __name__ == "__main__":
    main()
