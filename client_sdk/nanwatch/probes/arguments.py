"""Operations that are not defined everywhere, as nodes of a graph of autograd: how far an argument
is from the edge, and whether anything keeps it from crossing. Used by `margins` alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

DEPTH_MOST = 40
"""Nodes behind an argument that are looked at, one behind the other, ..."""
NODES_ASKED_MOST = 1000
"""... and in all within one search."""
ELEMENTS_MOST = 1 << 20
UNBOUNDED = ":unbounded"
"""Of arguments that nothing keeps within the domain."""
COMPLEMENT = ":1-p"
"""Of `1 - p`, which float32 rounds to 0 from 6e-8 on."""
HALF = ":float16"
"""Of exponentials in the format that ends at 65504."""
_NONE = object()


class Operation(NamedTuple):
    """An operation of a graph, to be found again in the graph of the next batch."""

    path: tuple[int, ...]
    """Which of the starts, then which of `next_functions` from node to node."""
    node: str
    """Type of the node."""
    name: str
    """What it is called: `log`, `log:unbounded`."""


def operations(starts: Sequence[Any], nodes_most: int, found_most: int) -> list[Operation]:
    """Operations that have an edge, the nearest to the `starts` first."""
    found: list[Operation] = []
    signs = Signs()
    seen: set[Any] = set()
    queue = [(node, (number,)) for number, node in enumerate(starts) if node is not None]
    for node, path in queue:
        if len(seen) >= nodes_most or len(found) >= found_most:
            break
        if node in seen:
            continue
        seen.add(node)
        kind = type(node).__name__
        if kind in _OPERATIONS and (name := _name_of(node, kind, signs)):
            found.append(Operation(path, kind, name))
        queue += [
            (parent, (*path, number))
            for number, (parent, _) in enumerate(node.next_functions)
            if parent is not None
        ]
    return found


def _name_of(node: Any, kind: str, signs: Signs) -> str:
    """What it is called, empty if its edge is of no interest."""
    name, attribute, _ = _OPERATIONS[kind]
    tensor = saved(node, attribute)
    if tensor is None or not 0 < tensor.numel() <= ELEMENTS_MOST:
        return ""
    if kind == "PowBackward0" and not _ends_at_zero(node):
        return ""
    if kind == "DivBackward0" and not tensor.requires_grad:
        return ""  # counts and scales: they are not learnt
    if name == "exp":
        return f"exp{HALF}" if str(tensor.dtype) == "torch.float16" else name
    argument = argument_of(node, kind)
    if kind == "Log1PBackward0":  # defined from -1 on
        inner = None
        if argument is not None and _kind(argument) == _NEG:
            inner = argument.next_functions[0][0]
        if inner is not None and _up_to_one(inner, 0):
            return name + COMPLEMENT
        return name if signs.positive(argument, zero=True) else name + UNBOUNDED
    if kind == "AcoshBackward0":
        return name + UNBOUNDED  # it would have to be above 1
    if argument is not None and _bare_complement(argument):
        return name + COMPLEMENT
    return name if signs.positive(argument) else name + UNBOUNDED


def margin_of(operation: Operation, starts: Sequence[Any]) -> Any:
    """Least distance of its arguments from the edge, zero-dimensional, on their device; None if the
    graph is another one.

    The distance is that of the argument itself: x of log(x), 1 - |x| of acos(x); of exp(x) what x
    is below the logarithm of the largest number of its format.
    """
    first, *rest = operation.path
    node = starts[first] if first < len(starts) else None
    for number in rest:
        parents = node.next_functions if node is not None else ()
        node = parents[number][0] if number < len(parents) else None
    if node is None or type(node).__name__ != operation.node:
        return None
    _, attribute, distance = _OPERATIONS[operation.node]
    tensor = saved(node, attribute)
    if tensor is None or not 0 < tensor.numel() <= ELEMENTS_MOST:
        return None
    return distance(tensor.detach())


def saved(node: Any, attribute: str) -> Any:
    """A tensor that a node saved, if it can be had without running anything of the user: packed
    ones (checkpointing, offloading) would be made anew."""
    raw = getattr(node, "_raw" + attribute, None)
    if raw is None or getattr(raw, "unpack_hook", _NONE) is not None:
        return None
    try:
        tensor = getattr(node, attribute)
    except RuntimeError:
        return None  # freed, or written to since
    import torch

    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.is_floating_point()
    return tensor if plain and tensor.layout is torch.strided else None


def argument_of(node: Any, name: str) -> Any:
    """The node behind the argument that has an edge; None for a constant."""
    parents = node.next_functions
    index = 1 if name == "DivBackward0" and len(parents) > 1 else 0
    return parents[index][0] if parents else None


def _exponent(node: Any) -> float | None:
    """The plain number something is raised to."""
    if type(node).__name__ != "PowBackward0":
        return None  # a tensor, which may be packed
    exponent = node._saved_exponent
    return float(exponent) if isinstance(exponent, int | float) else None


def _ends_at_zero(node: Any) -> bool:
    """True for roots and negative powers."""
    exponent = _exponent(node)
    return exponent is not None and exponent < 1 and exponent != 0


def _from_root(result: Any) -> Any:
    return result.amin().square()


def _largest_exponent(result: Any) -> Any:
    import torch

    largest = result.amax()
    if largest.dtype is not torch.float64:
        largest = largest.float()
    return math.log(torch.finfo(result.dtype).max) - largest.log()


def _within_one(x: Any) -> Any:
    return 1 - x.abs().amax()


_OPERATIONS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "LogBackward0": ("log", "_saved_self", lambda x: x.amin()),
    "Log2Backward0": ("log", "_saved_self", lambda x: x.amin()),
    "Log10Backward0": ("log", "_saved_self", lambda x: x.amin()),
    "Log1PBackward0": ("log", "_saved_self", lambda x: 1 + x.amin()),
    "SqrtBackward0": ("sqrt", "_saved_result", _from_root),
    "RsqrtBackward0": ("sqrt", "_saved_result", lambda r: r.amax().square().reciprocal()),
    "PowBackward0": ("power", "_saved_self", lambda x: x.amin()),
    "ReciprocalBackward0": ("division", "_saved_result", lambda r: r.abs().amax().reciprocal()),
    "DivBackward0": ("division", "_saved_other", lambda x: x.abs().amin()),
    "AcosBackward0": ("acos", "_saved_self", _within_one),
    "AsinBackward0": ("asin", "_saved_self", _within_one),
    "AtanhBackward0": ("atanh", "_saved_self", _within_one),
    "AcoshBackward0": ("acosh", "_saved_self", lambda x: x.amin() - 1),
    "ExpBackward0": ("exp", "_saved_result", _largest_exponent),
}
"""Node → (operation, what it saved, the least distance from the edge)."""

_POSITIVE = frozenset(
    f"{name}Backward"
    for name in ("Exp", "Exp2", "Softmax", "Sigmoid", "Softplus", "Abs", "Sqrt", "Rsqrt", "Std",
                 "StdMean", "Var", "VarMean", "LinalgVectorNorm", "Norm", "Cosh", "Cdist",
                 "EuclideanDist", "Erfc", "LinalgCholeskyEx", "LinalgSvd", "LinalgEigh", "MseLoss",
                 "SmoothL1Loss", "HuberLoss", "L1Loss", "NllLoss", "NllLoss2D", "NllLossNd",
                 "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "SoftMarginLoss")
)  # fmt: skip
"""Results that are not negative, and 0 by chance only. Of a Cholesky factor the diagonal is
positive, and nobody takes the logarithm of the rest."""
_NEGATIVE = frozenset({"LogSoftmaxBackward", "LogSigmoidBackward"})
_CUT = frozenset(f"{name}Backward" for name in ("Relu", "Relu6", "Threshold", "Hardsigmoid"))
"""Results that are 0 for whole regions of what goes in: they hold nothing off 0."""
_UP_TO_ONE = frozenset(f"{name}Backward" for name in ("Softmax", "Sigmoid", "Tanh", "Sin", "Cos"))
_PASSES_ON = frozenset(
    f"{name}Backward"
    for name in ("Add", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Amax", "Amin", "View",
                 "ReshapeAlias", "UnsafeView", "Select", "Index", "Slice", "Unsqueeze", "Squeeze",
                 "Permute", "Transpose", "T", "Expand", "Cat", "Stack", "Gather", "Clone", "ToCopy",
                 "IndexSelect", "Split", "SplitWithSizes", "Unbind", "Alias", "Repeat", "Cumsum",
                 "Cumprod", "Prod", "Minimum", "Mm", "Bmm", "Mv", "Dot", "Where", "MaskedFill",
                 "Sort", "Topk", "Narrow", "Diagonal", "Flip", "Roll", "ConstantPadNd", "Nansum",
                 "ScatterAdd", "IndexAdd", "IndexPut", "Scatter", "AvgPool1D", "AvgPool2D",
                 "AdaptiveAvgPool2D", "MaxPool2DWithIndices", "Lerp", "Addcmul")
)  # fmt: skip
"""Not negative if nothing that goes in is."""


def _kind(node: Any) -> str:
    """Type of a node without the number of its overload: `ClampBackward`."""
    return type(node).__name__.rstrip("0123456789")


class Signs:
    """What the graph says of the signs of results, within one search. Constants (None) are taken
    for positive: they are data. Beyond a number of nodes everything counts as held: silence."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, bool], bool] = {}
        self._asked = 0

    def positive(self, node: Any, depth: int = 0, zero: bool = False) -> bool:
        """True if a result cannot be negative, nor 0 unless `zero` allows for that."""
        if node is None:
            return True
        key = (node, zero)
        if (known := self._known.get(key)) is None:
            self._asked += 1
            known = self._asked > NODES_ASKED_MOST or self._positive(node, depth, zero)
            self._known[key] = known
        return known

    def _positive(self, node: Any, depth: int, zero: bool) -> bool:
        name = _kind(node)
        if name in _POSITIVE or name in _CUT:
            return name in _POSITIVE or zero
        if name in ("ClampBackward", "ClampMinBackward", "HardtanhBackward"):
            return _clamped(node, zero)
        if depth >= DEPTH_MOST:
            return False
        parents = [parent for parent, _ in node.next_functions]
        if name in _COMBINED:
            return _COMBINED[name](self, node, parents, depth + 1, zero)
        passes = name in _PASSES_ON
        return passes and all(self.positive(parent, depth + 1, zero) for parent in parents)

    def _sum(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        """One part above 0 is enough: a constant, often."""
        whole = all(self.positive(parent, depth, True) for parent in parents)
        return whole and (zero or any(self.positive(parent, depth) for parent in parents))

    def _product(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        square = len(parents) == 2 and parents[0] is parents[1]
        return square or all(self.positive(parent, depth, zero) for parent in parents)

    def _power(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        exponent = _exponent(node)
        even = exponent is not None and exponent % 2 == 0
        return even or (bool(parents) and self.positive(parents[0], depth, zero))

    def _negation(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        inner = parents[0] if parents else None
        if inner is None or _kind(inner) in _NEGATIVE:
            return inner is not None
        again = [parent for parent, _ in inner.next_functions] if _kind(inner) == _NEG else []
        return bool(again) and self.positive(again[0], depth, zero)

    def _largest(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        return any(self.positive(parent, depth, zero) for parent in parents)

    def _difference(self, node: Any, parents: list[Any], depth: int, zero: bool) -> bool:
        return _complement(node, depth)


_NEG = "NegBackward"
_COMBINED: dict[str, Callable[..., bool]] = {
    "AddBackward": Signs._sum,
    "MulBackward": Signs._product,
    "PowBackward": Signs._power,
    _NEG: Signs._negation,
    "MaximumBackward": Signs._largest,
    "SubBackward": Signs._difference,
    "RsubBackward": Signs._difference,
}


def _clamped(node: Any, zero: bool) -> bool:
    """What a clamp is worth: one at 0 keeps nothing off it. Bounds that are tensors count: they may
    be packed, so nobody looks at them."""
    attribute = _BOUNDS_OF.get(type(node).__name__)
    least = getattr(node, attribute) if attribute is not None else 1.0
    return isinstance(least, int | float) and (least > 0 or (zero and least == 0))


_BOUNDS_OF = {
    "ClampBackward1": "_saved_min",
    "ClampMinBackward0": "_saved_min",
    "HardtanhBackward0": "_saved_min_val",
}
"""Clamps by plain numbers."""


def _complement(node: Any, depth: int = 0) -> bool:
    """True for a constant less something that never exceeds 1; the constant is taken for 1."""
    parents = [parent for parent, _ in node.next_functions]
    if _kind(node) == "SubBackward":
        learnt = parents[1] if len(parents) == 2 and parents[0] is None else None
    else:
        learnt = parents[0] if parents else None
    return learnt is not None and _up_to_one(learnt, depth + 1)


def _bare_complement(node: Any) -> bool:
    """True for `1 - p`, with nothing added to it."""
    for _ in range(DEPTH_MOST):
        if node is None:
            return False
        if _kind(node) in ("SubBackward", "RsubBackward"):
            return _complement(node)
        parents = [parent for parent, _ in node.next_functions]
        if len(parents) != 1:
            return False
        node = parents[0]
    return False


def _up_to_one(node: Any, depth: int) -> bool:
    """True if a result never exceeds 1, along one path: parts of a product and the like."""
    while node is not None and depth < DEPTH_MOST:
        name = _kind(node)
        if name in _UP_TO_ONE or name.startswith(("Clamp", "Hardtanh", "Hardsigmoid")):
            return True
        grows = name.startswith(("Add", "Sum", "Mm", "Bmm", "Cumsum"))
        power = name == "PowBackward" and (_exponent(node) or 0) > 0
        if grows or not (power or name in _PASSES_ON):
            return False
        parents = {parent for parent, _ in node.next_functions if parent is not None}
        if len(parents) != 1:
            return False
        node, depth = parents.pop(), depth + 1
    return False
