"""Entropy and KL of policies, from the calls of `torch.distributions` that the loss is made of.

What a script asks a distribution for is measured where it asks; what it logs itself under these
names wins. Wraps `entropy` of the common distributions and `kl_divergence` while a run is on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.guard import GUARD
from nanwatch.probes.calls import Ledger, hidden_from_dynamo
from nanwatch.probes.probe import Columns, Measured, Probe, now
from nanwatch.probes.tensors import capturing, read_all

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

FIRST_STEP = 20
"""By then a script that logs its own entropy or KL has done so."""

CALLS_MOST = 32
"""Calls that are measured between two backward passes."""

DISTRIBUTIONS = (
    "Categorical",
    "OneHotCategorical",
    "Bernoulli",
    "Normal",
    "LogNormal",
    "Laplace",
    "Uniform",
    "Beta",
    "Gamma",
    "Dirichlet",
    "MultivariateNormal",
    "Independent",
    "TransformedDistribution",
)

_EACH_ALONE = frozenset({"Normal", "LogNormal", "Laplace", "Uniform", "Beta", "Gamma", "Bernoulli"})
"""Distributions of one number each: the last dimension of a batch is the parts of one action."""


_LISTENING: list[Policies] = []
"""The runs that listen, the newest last. Global, because Dynamo wraps what a closure holds."""


class Policies(Probe):
    """Listens to distributions inside an attempt, with gradients."""

    name: ClassVar[str] = "entropy and KL"
    share: ClassVar[float] = 0.05

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._undo: list[Callable[[], None]] = []
        self._question: Callable[[], Any] | None = None
        self._depth = 0
        self._asked = -1
        self._due = False
        self._since = 0
        self._ledger: Ledger[tuple[str, Any]] = Ledger()
        self._columns: dict[tuple[tuple[str, str, str], ...], Columns] = {}
        self._found: set[str] = set()

    def install(self) -> None:
        """Wrap what there is in this version of torch."""
        import torch.distributions as distributions
        from torch.distributions import kl

        self._question = hidden_from_dynamo((_ask.__code__, Policies.asked.__code__))
        if self._question is None:
            return
        _LISTENING.append(self)
        for name in DISTRIBUTIONS:
            kind = getattr(distributions, name, None)
            if kind is not None and "entropy" in kind.__dict__:
                self._wrap(kind, "entropy", "entropy")
        original = kl.kl_divergence
        self._wrap(kl, "kl_divergence", "kl")
        if distributions.kl_divergence is original:
            ours = kl.kl_divergence
            distributions.kl_divergence = ours
            self._undo.append(lambda: _put_back(distributions, "kl_divergence", ours, original))

    def remove(self) -> None:
        """Put torch back as it was."""
        if self in _LISTENING:
            _LISTENING.remove(self)
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def _wrap(self, owner: Any, name: str, kind: str) -> None:
        original = getattr(owner, name)
        asked = _wrapper(original, kind)
        asked.__wrapped__ = original  # type: ignore[attr-defined]
        asked.__name__, asked.__doc__ = name, original.__doc__
        hidden_from_dynamo((asked.__code__,))
        setattr(owner, name, asked)
        self._undo.append(lambda: _put_back(owner, name, asked, original))

    # --- what was asked --------------------------------------------------------------------------

    def asked(self, kind: str, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The user's call, once. Only the outermost of a nest is measured."""
        if self._question is None or self._question() is not None or not self._here():
            return original(*args, **kwargs)
        self._depth += 1
        try:
            result = original(*args, **kwargs)
        finally:
            self._depth -= 1
        if self._depth == 0:
            self._note(kind, args[0] if args else None, result)
        return result

    def _here(self) -> bool:
        observer = self.observer
        thread = observer.thread
        return observer.enabled and thread is not None and thread.ident == threading.get_ident()

    def _note(self, kind: str, distribution: Any, result: Any) -> None:
        try:
            self._measure(kind, distribution, result)
        except Exception as error:
            GUARD.note(f"probe {self.name}", error)

    def _measure(self, kind: str, distribution: Any, result: Any) -> None:
        import torch

        step = self.observer.clock.step
        if step < FIRST_STEP or self._since >= CALLS_MOST:
            return
        if type(result) is not torch.Tensor or not result.requires_grad or not result.numel():
            return
        native: Any = torch._C
        if native._functorch.peek_interpreter_stack() is not None or capturing():
            return
        if self._asked != step:
            self._asked, self._due = step, self.cadence.due()
        if not self._due:
            return
        started = time.perf_counter()
        with torch.no_grad():
            value = result.detach()
            if value.dim() > 1 and type(distribution).__name__ in _EACH_ALONE:
                value = value.sum(-1)
            self._ledger.note((kind, value.mean()))
        self._since += 1
        spent = time.perf_counter() - started
        self.observer.overhead.spent(spent)
        self.cadence.spent(spent)

    def after_backward(self, backward: Backward) -> None:
        """It used what was asked since the last one."""
        self._since = 0
        self._ledger.after_backward(backward)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Mean over the calls of this attempt, of what the script does not log itself."""
        own = self.observer.intake.own
        said = [one for one in self._ledger.closed(attempt) if one[0] not in own]
        if not said:
            return
        kinds = tuple(dict.fromkeys(kind for kind, _ in said))
        self._found.update(kinds)
        entries = tuple((kind, known.scope, "") for kind in kinds)
        columns = self._columns.setdefault(entries, Columns(entries))
        order = [kinds.index(kind) for kind, _ in said]
        self.observer.recorder.put(
            Measured(
                attempt.step,
                now(),
                columns,
                read_all([value for _, value in said]),
                f"policy {known.scope}",
                lambda values: _means(order, values),
            )
        )

    def coverage(self) -> str:
        """What was found."""
        return f"{', '.join(sorted(self._found))}: {super().coverage()}" if self._found else ""


def _wrapper(original: Callable[..., Any], kind: str) -> Any:
    import torch

    compiling = torch.compiler.is_compiling

    def asked(*args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(*args, **kwargs)
        return _ask(kind, original, args, kwargs)

    return asked


def _ask(kind: str, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if not _LISTENING:
        return original(*args, **kwargs)
    return _LISTENING[-1].asked(kind, original, args, kwargs)


def _means(order: list[int], values: Sequence[float]) -> list[float]:
    grouped: list[list[float]] = [[] for _ in range(max(order) + 1)]
    for index, value in zip(order, values, strict=True):
        grouped[index].append(value)
    return [math.fsum(group) / len(group) if _finite(group) else sum(group) for group in grouped]


def _finite(values: list[float]) -> bool:
    return all(map(math.isfinite, values))


def _put_back(owner: Any, name: str, ours: Any, original: Any) -> None:
    # Someone may have wrapped us since: then leave the chain, ours is asleep anyway.
    if owner.__dict__.get(name) is ours:
        setattr(owner, name, original)
