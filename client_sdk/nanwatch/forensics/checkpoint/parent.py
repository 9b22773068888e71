"""Runs the children and takes what they say as data that may be wrong. Called by the CLI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import IO, TypeVar

import msgspec

from nanwatch.forensics.checkpoint.facts import (
    BackwardFacts,
    CheckpointFacts,
    Job,
    Message,
    Progress,
    Ran,
    Read,
    Refusal,
)
from nanwatch.forensics.checkpoint.formats import Unusable

MESSAGE_MOST = 256 << 20
"""Largest message of a child, in bytes: 200,000 tensors with room to spare."""

SAID_MOST = 64 << 10

Found = TypeVar("Found", CheckpointFacts, BackwardFacts)


def look(job: Job, show: Callable[[Progress], None]) -> CheckpointFacts:
    """What is in a checkpoint, read in a limited child. Raises Unusable."""
    message = _ask(job, show)
    if isinstance(message, Read):
        return message.facts
    raise Unusable("the process that read it answered something else: please report this")


def run(job: Job, show: Callable[[Progress], None]) -> BackwardFacts:
    """What `job.script` did, in a child that runs the user's code. Raises Unusable."""
    message = _ask(job, show)
    if isinstance(message, Ran):
        return message.facts
    raise Unusable("the process that ran it answered something else: please report this")


def _ask(job: Job, show: Callable[[Progress], None]) -> Message:
    # -P: a folder of checkpoints may hold a torch.py of its own.
    command = [sys.executable, "-P", "-m", "nanwatch.forensics.checkpoint.child"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if job.script else subprocess.PIPE,
        env=_environment(limited=not job.script),
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with process.stdin as stdin:
            stdin.write(msgspec.msgpack.encode(job))
        message: Message | None = None
        while (received := _receive(process.stdout)) is not None:
            message = received
            if isinstance(received, Progress):
                show(received)
            else:
                break
        if isinstance(message, Refusal):
            raise Unusable(message.message)
        if message is None or isinstance(message, Progress):
            raise Unusable(_died(process, job))
        return message
    except BrokenPipeError as error:
        raise Unusable(_died(process, job)) from error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def _environment(limited: bool) -> dict[str, str]:
    variables = dict(os.environ)
    # A diagnosis is no run: nothing is sent, spooled or served by what the child imports.
    variables["NANWATCH_MODE"] = "off"
    if limited:
        variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def _receive(pipe: IO[bytes]) -> Message | None:
    head = pipe.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "little")
    if length > MESSAGE_MOST:
        raise Unusable("the process that read it answered too much: it was stopped")
    data = pipe.read(length)
    if len(data) < length:
        return None
    try:
        return msgspec.msgpack.decode(data, type=Message)
    except msgspec.MsgspecError as error:
        raise Unusable(f"the process that read it answered nonsense: {error}") from error


def _died(process: subprocess.Popen[bytes], job: Job) -> str:
    """Why a child ended without an answer."""
    said = ""
    if process.stderr is not None:
        said = process.stderr.read(SAID_MOST).decode("utf-8", "replace").strip()
    code = process.wait()
    name = os.path.basename(job.path)
    if job.script:
        return (
            f"{job.script} ended the process (exit code {code}) before the backward pass was done"
        )
    if code == -getattr(signal, "SIGXCPU", 0) or code == -signal.SIGKILL:
        return (
            f"reading {name} was stopped: it used more processor time or memory than a file of its "
            "size can need. It is damaged or hostile"
        )
    if code < 0:
        return f"{name} crashed the process that read it (signal {-code}): it is damaged or hostile"
    last = said.rpartition("\n")[2] if said else "nothing was said"
    return f"the process that read {name} ended early (exit code {code}): {last[:400]}"
