"""The largest logit of models whose output goes into a softmax: classifiers, language models.

Nothing of torch is replaced for it. Whether an output is logits is seen once, in the graph behind
the loss: a softmax that the output flows into. From then on the output itself is looked at, on a
cadence. Fed by `calls`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.probes.calls import Ledger, Listener, Watch
from nanwatch.probes.passes import ScopedCadence
from nanwatch.probes.probe import Columns, Measured, now
from nanwatch.probes.tensors import Numbers, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

TRIES = 5
"""Backward passes in which the graph is searched before an output is taken for something else."""

NODES_MOST = 300
"""Nodes of the graph that are looked at from the loss on."""

ELEMENTS_MOST = 1 << 22
"""Of larger outputs evenly spaced rows are looked at."""

_SOFTMAX = frozenset(
    {"LogSoftmaxBackward0", "SoftmaxBackward0", "LogsumexpBackward0"}
    | {"BinaryCrossEntropyWithLogitsBackward0", "LogSigmoidBackward0"}
)


@dataclass(slots=True, eq=False)
class _Output:
    """What is known of the output of one module."""

    logits: bool | None = None
    """None while it is not decided."""
    tries: int = 0
    node: Any = None
    """Node of the graph that made the last output; only until the backward pass."""
    asked: int = -1


class Logits(Listener):
    """Measures at the call, because a large output must not be kept."""

    name: ClassVar[str] = "logits"
    share: ClassVar[float] = 0.1

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence: ScopedCadence = ScopedCadence(observer.overhead, self.share)
        self._outputs: dict[Watch, _Output] = {}
        self._undecided: set[_Output] = set()
        """Outputs with a node."""
        self._columns: dict[str, Columns] = {}
        self._ledger: Ledger[Numbers] = Ledger()

    def found(self, watches: Sequence[Watch]) -> None:
        """Modules are new: look at their graphs again."""
        self._outputs = {watch: _Output() for watch in watches if watch.owners}
        self.cadence.named([watch.name for watch in self._outputs])

    def wants(self, watch: Watch) -> bool:
        """Everything that is trained."""
        return watch in self._outputs

    def called(self, watch: Watch, output: Any, with_grad: bool) -> None:
        """Measure it if it is known to be logits; remember its node if that is not known."""
        known = self._outputs.get(watch)
        if known is None or known.logits is False or not with_grad:
            return
        logits = logits_of(output)
        if logits is None or not logits.requires_grad:
            return
        if known.logits is None:
            known.node = logits.grad_fn
            self._undecided.add(known)
            return
        step = self.observer.clock.step
        if known.asked == step:
            return
        known.asked = step
        cadence = self.cadence.of(watch.name)
        if cadence.due():
            started = time.perf_counter()
            self._ledger.note(largest(logits), watch.owners)
            cadence.spent(time.perf_counter() - started)

    def before_backward(self, backward: Backward) -> None:
        """The graph is still there: see whether the outputs flow into a softmax."""
        if not self._undecided:
            return
        undecided = {output.node: output for output in self._undecided if output.node is not None}
        self._undecided.clear()
        seen = behind_a_softmax(backward.starts, set(undecided))
        for node, output in undecided.items():
            output.node = None
            output.tries += 1
            if node in seen:
                output.logits = True
            elif output.tries >= TRIES:
                output.logits = False

    def after_backward(self, backward: Backward) -> None:
        """It used what was measured."""
        self._ledger.after_backward(backward)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Hand over the largest of this attempt."""
        for output in self._undecided:
            output.node = None
        self._undecided.clear()
        for numbers in self._ledger.closed(attempt)[:1]:
            columns = self._columns.setdefault(
                known.scope, Columns((("logit_max", known.scope, ""),))
            )
            self.observer.recorder.put(
                Measured(attempt.step, now(), columns, numbers, f"logits {known.scope}")
            )

    def coverage(self) -> str:
        """How often, if there is a model that gives logits."""
        return self.cadence.text() if any(o.logits for o in self._outputs.values()) else ""


def logits_of(output: Any) -> Any:
    """The tensor that may be logits: the output, its first part, or what is called `logits`."""
    import torch

    if isinstance(output, dict):
        output = output.get("logits")
    elif isinstance(output, tuple | list):
        output = output[0] if output else None
    elif not isinstance(output, torch.Tensor):
        output = getattr(output, "logits", None)
    plain = type(output) is torch.Tensor and output.is_floating_point()
    return output if plain and output.dim() > 0 and output.numel() > 0 else None


def behind_a_softmax(starts: Sequence[Any], wanted: set[Any]) -> set[Any]:
    """Those nodes of `wanted` that are reached from the loss through a softmax."""
    found: set[Any] = set()
    seen: set[tuple[Any, bool]] = set()
    queue = [(node, False) for node in starts if node is not None]
    for node, passed in queue:
        if len(seen) >= NODES_MOST:
            break
        if (node, passed) in seen:
            continue
        seen.add((node, passed))
        if node in wanted:
            if passed:
                found.add(node)
            continue  # what lies behind is inside the model: attention has a softmax too
        through = passed or type(node).__name__ in _SOFTMAX
        queue += [(parent, through) for parent, _ in node.next_functions if parent is not None]
    return found


def largest(logits: Any) -> Numbers:
    """Largest absolute value, NaN if there is one, without waiting for the device."""
    import torch

    logits = logits.detach()
    if logits.numel() > ELEMENTS_MOST and logits.dim() > 1:
        stride = -(-logits.numel() // ELEMENTS_MOST)
        longest = max(range(logits.dim() - 1), key=lambda d: logits.shape[d])
        index = [slice(None)] * logits.dim()
        index[longest] = slice(None, None, stride)
        logits = logits[tuple(index)]
    with torch.no_grad():
        return read(torch.linalg.vector_norm(logits, float("inf")).reshape(1))
