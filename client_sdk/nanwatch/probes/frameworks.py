"""What the loops of known frameworks say of themselves, read off the running stack.

Imports none of them: their loops are known by the names of functions and modules. `observer` asks
at each new place of backward, `hooks` when a stop was granted. Works with and without a callback
of `nanwatch.integrations`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

FRAMES_MAX = 200


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


# --- the loss ------------------------------------------------------------------------------------


def loss_is_shared_out(frame: FrameType | None) -> bool:
    """True if the micro-batches' losses must be added up, not averaged.

    The Trainer of transformers divides each by the number of items of all micro-batches.
    """
    for _ in range(FRAMES_MAX):
        if frame is None:
            return False
        # Variables are read of the framework's own frames only: reading leaves a copy behind.
        if frame.f_code.co_name == "training_step" and _module(frame) == "transformers.trainer":
            return bool(frame.f_locals.get("loss_is_scaled_for_ga"))
        frame = frame.f_back
    return False


# --- a granted stop ------------------------------------------------------------------------------


class Ending:
    """A framework's loop that was asked to end."""

    def __init__(self, loop: Loop, frame: FrameType) -> None:
        self._loop = loop
        self._owner = weakref.ref(frame.f_locals["self"])

    def goes_on(self, frame: FrameType | None) -> bool:
        """True while that very loop runs; False in what the script started after it."""
        found = _running(frame)
        if found is None:
            return False
        loop, running = found
        owner = running.f_locals["self"]
        return owner is self._owner() and loop is self._loop and loop.asked(owner, running)


def ask_to_end(frame: FrameType | None) -> Ending | None:
    """Set the stop flag of the framework whose loop is running; None if there is none.

    The loop then ends as if it were done: callbacks, its last checkpoint and what the script does
    afterwards still run.
    """
    found = _running(frame)
    if found is None:
        return None
    loop, running = found
    loop.ask(running.f_locals["self"], running)
    return Ending(loop, running)


def _running(frame: FrameType | None) -> tuple[Loop, FrameType] | None:
    """The innermost loop of a framework on the stack."""
    for _ in range(FRAMES_MAX):
        if frame is None:
            return None
        loop = _LOOPS.get(frame.f_code.co_name)
        if loop is not None and _module(frame).startswith(loop.packages):
            return loop, frame
        frame = frame.f_back
    return None


class Loop(NamedTuple):
    """How to end the loop of one framework."""

    packages: tuple[str, ...]
    ask: Callable[[Any, FrameType], None]
    asked: Callable[[Any, FrameType], bool]


def _lightning(trainer: Any, _: FrameType) -> None:
    # `min_epochs` and `min_steps` hold back early stopping; they shall not hold back a person.
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = None
    trainer.should_stop = True


def _transformers(trainer: Any, _: FrameType) -> None:
    trainer.control.should_training_stop = True


def _stable_baselines(_: Any, frame: FrameType) -> None:
    """The loop ends when its callback says False: once, whatever the user's callback says."""
    callback = frame.f_locals["callback"]

    def on_step() -> bool:
        del callback.on_step
        callback.on_step()
        return False

    callback.on_step = on_step


def _torchrl(trainer: Any, _: FrameType) -> None:
    trainer.request_stop("asked from the nanwatch page")


_LOOPS: dict[str, Loop] = {
    "_run_stage": Loop(
        ("lightning.pytorch.trainer", "pytorch_lightning.trainer"),
        _lightning,
        lambda trainer, _: trainer.should_stop,
    ),
    "_inner_training_loop": Loop(
        ("transformers.trainer",),
        _transformers,
        lambda trainer, _: trainer.control.should_training_stop,
    ),
    "learn": Loop(
        ("stable_baselines3.common.",),
        _stable_baselines,
        lambda _, frame: "on_step" in vars(frame.f_locals["callback"]),
    ),
    "train": Loop(
        ("torchrl.trainers.",), _torchrl, lambda trainer, _: bool(trainer._stop_training)
    ),
}
"""Name of the function that runs a loop → how to end it."""
