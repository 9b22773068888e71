"""BatchNorm that keeps its running statistics, also after `model.train()`: `freeze_batchnorm`."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class FrozenBatchNorm:
    """Made by `freeze_batchnorm`. A context manager too: `unfreeze` at its end."""

    def __init__(self, model: Any) -> None:
        from torch.nn.modules.batchnorm import _BatchNorm

        if not hasattr(model, "modules"):
            raise TypeError(
                f"freeze_batchnorm expects a module of torch; got {type(model).__name__}"
            )
        found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._frozen = [(module, module.training) for module in found]
        # A function of this module, so that the model can still be pickled and copied.
        self._handles = [module.register_forward_pre_hook(_stay_frozen) for module in found]
        for module in found:
            module.eval()

    @property
    def count(self) -> int:
        """Layers that were frozen."""
        return len(self._frozen)

    def unfreeze(self) -> None:
        """Let the layers learn their statistics again."""
        for handle in self._handles:
            handle.remove()
        for module, training in self._frozen:
            module.train(training)
        self._handles, self._frozen = [], []

    def __enter__(self) -> FrozenBatchNorm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unfreeze()


def _stay_frozen(module: Any, args: Any) -> None:
    """Undo what `model.train()` did."""
    if module.training:
        module.eval()


def freeze_batchnorm(model: Any) -> FrozenBatchNorm:
    """Normalise with the running statistics as they are now, also after `model.train()`.

    For good, until `unfreeze` of what it returns, or for the length of a `with`. Weights and
    biases of the layers still learn.
    """
    frozen = FrozenBatchNorm(model)
    from nanwatch.run import current

    current().mark("note", f"BatchNorm frozen in {frozen.count} layers")
    return frozen
