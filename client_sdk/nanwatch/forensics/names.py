"""Names of modules, parameters and buffers as the series of layers have them.

A root module whose parameters one optimizer owns alone goes by the plain name (`encoder.0`), as
in `grad_norm_layer`; any other root's name stands before it (`target.encoder.0`). Made anew on
trouble and when tracing is armed, never in a healthy attempt. Training thread only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nanwatch.contract.limits import to_name
from nanwatch.probes.discovery import clean, layer_of
from nanwatch.probes.registry import Registry


@dataclass(slots=True)
class Names:
    """What is where, without keeping any of it alive (`parameters` and `buffers` do: drop them)."""

    modules: dict[int, str] = field(default_factory=dict)
    """`id(module)` → name; a nameless root goes by its variable."""
    parameters: list[tuple[str, Any]] = field(default_factory=list)
    buffers: list[tuple[str, Any]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """Layers with parameters, in the order of registration, which is mostly that of forward."""


def names_of(registry: Registry) -> Names:
    """Names of everything in the live root modules."""
    names = Names()
    owners = registry.owner_of()
    roots = [(name, ref()) for name, ref in registry.roots.items()]
    live = [(name, root) for name, root in roots if root is not None]
    owned = [{owners[id(p)] for p in root.parameters() if id(p) in owners} for _, root in live]
    counts: dict[int, int] = {}
    for numbers in owned:
        for number in numbers:
            counts[number] = counts.get(number, 0) + 1
    scopes = len(counts) > 1
    for (name, root), numbers in zip(live, owned, strict=True):
        alone = len(numbers) == 1 and all(counts[number] == 1 for number in numbers)
        prefix = "" if alone else f"{name}."
        if alone and scopes:
            scope = registry.known[next(iter(numbers))].scope
            prefix = f"{scope}." if scope else ""
        add_root(names, name, prefix, root)
    return names


def add_root(names: Names, root_name: str, prefix: str, root: Any) -> None:
    """Add everything in one root module; `root_name` stands for a root without `prefix`."""
    for path, module in root.named_modules():
        plain = clean(f"{path}.").rstrip(".") if path else ""
        names.modules.setdefault(
            id(module), to_name(f"{prefix}{plain}" if plain else prefix.rstrip(".") or root_name)
        )
    order: dict[str, None] = dict.fromkeys(names.order)
    for path, parameter in root.named_parameters():
        name = to_name(prefix + clean(path))
        names.parameters.append((name, parameter))
        order.setdefault(layer_of(name))
    names.order = list(order)
    names.buffers.extend((to_name(prefix + clean(path)), b) for path, b in root.named_buffers())
