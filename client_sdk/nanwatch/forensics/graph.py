"""Names the layer whose numbers went bad from the autograd graph of a loss that is not finite.

Before its backward a graph still holds what each operation saved; walked in the order of the
forward pass it tells where the first bad number stands, although nothing was armed. Only where
the loss is known without waiting (CPU). Training thread, on trouble only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NODES_MAX = 50_000
_RESULTS = ("_saved_result", "_saved_output", "_saved_out", "_saved_logsumexp")
_VIEWS = ("TBackward", "View", "Transpose", "Permute", "ToCopy", "Expand", "Unsafe", "Clone")
LOSS_OPERATIONS = (
    "Log",
    "Sqrt",
    "Div",
    "Pow",
    "Nll",
    "CrossEntropy",
    "Mse",
    "Kl",
    "Reciprocal",
    "Acos",
    "Norm",
    "Exp",
)


@dataclass(slots=True)
class Found:
    """Where the first bad number stands."""

    layer: str
    """Layer that made it, or the last one before the operation that did; empty: none is known."""
    operation: str
    """Name of the autograd node."""
    what: str
    """`parameter`, `result` (the operation made it), `input` (it came in), `end` (after all that
    the graph saved)."""
    infinite: bool = False
    """Infinities, and no NaN yet."""
    maybe_mask: bool = False
    """Minus infinity alone, as in attention masks: no trouble unless nothing else is found."""
    after_last: bool = False
    """No layer comes after it: perhaps the loss itself made it."""
    cut: bool = False
    """What came in belongs to no graph: `layer` is the last one before it that is missing there."""


def first_bad(roots: list[Any], layers: dict[int, str], order: list[str]) -> Found | None:
    """Walk the graphs of `roots`.

    `layers` maps `id(parameter)` to its layer's name; `order` lists the layers in use, as
    registered.
    """
    nodes = in_forward_order(roots)
    if not nodes:
        return None
    last: dict[Any, str] = {}
    """Node → layer that computed last on the way to it."""
    own: dict[Any, list[tuple[str, Any]]] = {node: _parameters(node, layers) for node in nodes}
    for node in nodes:
        last[node] = own[node][0][0] if own[node] else _before(node, last)
    checked: set[Any] = set()
    found: Found | None = None
    node = nodes[-1]
    for node in nodes:
        now = _look(node, own[node], last, checked)
        if now is None:
            continue
        found = found or now
        if not now.maybe_mask:
            found = now
            break
    if found is None:
        found = Found(last[nodes[-1]], type(nodes[-1]).__name__, "end")
    rest = {name for other in nodes for name, _ in own[other]}
    # Where it is seen as what came into a layer, that layer comes after it.
    seen = nodes.index(node) + (last[node] == found.layer)
    done = {last[other] for other in nodes[:seen]}
    found.after_last = bool(found.layer) and not (rest - done)
    if found.what == "input" and own[node] and own[node][0][0] in order:
        # A constant put in place of an output cuts off from the graph what had made it.
        until = order.index(own[node][0][0])
        since = order.index(found.layer) + 1 if found.layer in order else 0
        missing = [name for name in order[since:until] if name not in rest]
        if missing:
            found.layer, found.cut = missing[-1], True
    return found


def in_forward_order(roots: list[Any]) -> list[Any]:
    """Operations of the graphs of `roots`, at most NODES_MAX, in the order they were made."""
    seen: set[Any] = set()
    stack = [r.node if hasattr(r, "node") else getattr(r, "grad_fn", None) for r in roots]
    while stack and len(seen) < NODES_MAX:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(following for following, _ in node.next_functions)
    operations = [node for node in seen if not hasattr(node, "variable")]
    return sorted(operations, key=lambda node: node._sequence_nr())


def _parameters(node: Any, layers: dict[int, str]) -> list[tuple[str, Any]]:
    """Parameters that feed this node, through views and casts alone."""
    if type(node).__name__.startswith(_VIEWS):
        return []
    found: list[tuple[str, Any]] = []
    for following, _ in node.next_functions:
        for _ in range(5):
            if following is None:
                break
            variable = getattr(following, "variable", None)
            if variable is not None:
                if id(variable) in layers:
                    found.append((layers[id(variable)], variable))
                break
            if not type(following).__name__.startswith(_VIEWS) or not following.next_functions:
                break
            following = following.next_functions[0][0]
    return found


def _before(node: Any, last: dict[Any, str]) -> str:
    """Layer that computed last before this node."""
    candidates = [f for f, _ in node.next_functions if f is not None and last.get(f)]
    if not candidates:
        return ""
    return last[max(candidates, key=lambda n: n._sequence_nr())]


def _maker(node: Any, last: dict[Any, str]) -> Any:
    """The operation whose result came into a layer; views, and those of weights, passed over."""
    for _ in range(5):
        inputs = [f for f, _ in node.next_functions if f is not None and last.get(f)]
        if not inputs:
            return None
        node = max(inputs, key=lambda n: n._sequence_nr())
        if not type(node).__name__.startswith(_VIEWS):
            return node
    return None


def _look(
    node: Any, own: list[tuple[str, Any]], last: dict[Any, str], checked: set[Any]
) -> Found | None:
    """The bad number that this node saved, results after inputs."""
    saved = _saved(node)
    saved.sort(key=lambda item: item[0].startswith(_RESULTS))
    storages = {p.untyped_storage().data_ptr(): name for name, p in own}
    operation = type(node).__name__
    for name, tensor in saved:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key in checked:
            continue
        bad = _bad(tensor)
        if bad is None:
            if len(checked) < NODES_MAX:
                checked.add(key)
            continue
        infinite, mask = bad != "nan", bad == "-inf"
        layer = storages.get(tensor.untyped_storage().data_ptr())
        if layer is not None:
            return Found(layer, operation, "parameter", infinite)
        if name.startswith(_RESULTS):
            return Found(last[node], operation, "result", infinite, mask)
        maker = _maker(node, last) if own else None
        operation = type(maker).__name__ if maker is not None else operation
        return Found(_before(node, last), operation, "input", infinite, mask)
    return None


def _saved(node: Any) -> list[tuple[str, Any]]:
    """Tensors a node saved, by name; none that a hook packed away (checkpointing, offloading)."""
    import torch

    found: list[tuple[str, Any]] = []
    for name in dir(node):
        if not name.startswith("_raw_saved_"):
            continue
        raw = getattr(node, name)
        many = isinstance(raw, tuple | list)
        for item in raw if many else (raw,):
            if getattr(item, "unpack_hook", None) is not None:
                continue
            data: Any = getattr(item, "data", None)
            if type(data) not in (torch.Tensor, torch.nn.Parameter):
                continue
            if data.device.type == "cpu" and data.numel() and data.layout is torch.strided:
                found.append((name[4:], data))
    return found


def _bad(tensor: Any) -> str | None:
    """`nan`, `inf` (no NaN), `-inf` (minus infinity alone), or None."""
    import torch

    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point():
        return None
    low, high = torch.aminmax(tensor)
    if torch.isnan(low):
        return "nan"
    if torch.isinf(high):
        return "inf"
    return "-inf" if torch.isinf(low) else None
