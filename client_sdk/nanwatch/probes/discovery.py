"""Finds the user's modules and what the user calls them, without any help from the script.

Modules come from one scan of the garbage collector, names from the variables of the frames that
are running. Both happen once, at the first attempt, and again when a new optimizer appears.
"""

from __future__ import annotations

import gc
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from nanwatch.contract.limits import to_name

_AFFIX = re.compile(r"^(?:optimi[sz]er|optim|opt)_?|_?(?:optimi[sz]er|optim|opt)s?$", re.IGNORECASE)
_WRAPPERS = ("_orig_mod.", "module.")
FRAMES_MAX = 60


def instances(base: type) -> list[Any]:
    """Every live object whose type derives from `base`.

    Asks the type, never `isinstance`: proxies run user code when asked for their class.
    """
    return [found for found in gc.get_objects() if issubclass(type(found), base)]


def wrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer that this one only passes calls on to, or None.

    `AcceleratedOptimizer` and `LightningOptimizer` derive from torch's class, never ran its
    `__init__`, and have the very list of parameter groups of the optimizer they hold.
    """
    import torch

    for held in list(getattr(optimizer, "__dict__", {}).values()):
        if (
            issubclass(type(held), torch.optim.Optimizer)
            and held is not optimizer
            and getattr(held, "param_groups", None) is optimizer.param_groups
        ):
            return held
    return None


def root_modules() -> list[Any]:
    """Live modules with parameters that are part of no other module."""
    import torch

    return outermost(instances(torch.nn.Module))


def modules_in_frames() -> list[Any]:
    """Root modules that variables of the running frames hold: found without a scan."""
    import torch

    found: dict[int, Any] = {}

    def keep(variables: dict[str, Any]) -> None:
        for value in list(variables.values()):
            if issubclass(type(value), torch.nn.Module):
                found[id(value)] = value

    _each_frame(keep)
    return outermost(found.values())


def outermost(modules: Iterable[Any]) -> list[Any]:
    """Those with parameters that are part of none of the others."""
    modules = list(modules)
    inner: set[int] = set()
    for module in modules:
        inner.update(id(child) for child in module.__dict__.get("_modules", {}).values())
    return [
        module
        for module in modules
        if id(module) not in inner
        and "_parameters" in module.__dict__
        and next(iter(module.parameters()), None) is not None
    ]


def names_in_frames(wanted: Iterable[Any]) -> dict[int, str]:
    """`id(object)` → variable or attribute name, the innermost frame's first."""
    ids = {id(thing) for thing in wanted}
    names: dict[int, str] = {}

    def collect(variables: dict[str, Any]) -> None:
        # A list first: the mapping belongs to the user and may change under us.
        for name, value in list(variables.items()):
            if id(value) in ids and id(value) not in names and name != "self":
                names[id(value)] = name

    _each_frame(collect)
    return names


def _each_frame(look: Callable[[dict[str, Any]], None]) -> None:
    """Show `look` the variables of each running frame of the user's, the innermost first."""
    frame = sys._getframe(1)
    for _ in range(FRAMES_MAX):
        if frame is None:
            break
        if not frame.f_globals.get("__name__", "").startswith(("torch.", "nanwatch.")):
            _look_at_locals(frame, look)
            look(frame.f_globals)
        frame = frame.f_back


def _look_at_locals(frame: FrameType, look: Callable[[dict[str, Any]], None]) -> None:
    variables = frame.f_locals
    look(variables)
    owner = variables.get("self")
    if owner is not None and hasattr(owner, "__dict__"):
        look(vars(owner))
    # Before Python 3.13 asking a function's frame for its variables leaves a copy on the frame,
    # which would keep the user's old models alive. Empty it, unless someone else holds it (then
    # it is the result of their own `locals()`). 3: the frame's, ours, and getrefcount's.
    snapshot = type(variables) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if snapshot and sys.getrefcount(variables) <= 3:
        variables.clear()


def scope_from_variable(name: str) -> str:
    """`policy_optimizer` → `policy`, `opt_g` → `g`, `optimizer` → `` (says nothing)."""
    return to_name(stripped) if (stripped := _AFFIX.sub("", name).strip("_")) else ""


def clean(name: str) -> str:
    """A parameter's name without the prefixes that wrappers put before it."""
    while prefix := next((p for p in _WRAPPERS if name.startswith(p)), ""):
        name = name[len(prefix) :]
    return name.replace("._orig_mod.", ".")


def parameter_names(roots: Iterable[Any], names: dict[int, str]) -> dict[int, tuple[str, str]]:
    """`id(parameter)` → (name of its root module, name within it)."""
    found: dict[int, tuple[str, str]] = {}
    for number, root in enumerate(roots):
        root_name = names.get(id(root)) or f"{type(root).__name__.lower()}{number or ''}"
        for name, parameter in root.named_parameters():
            found.setdefault(id(parameter), (to_name(root_name), clean(name)))
    return found


def layer_of(parameter: str) -> str:
    """Module that owns a parameter: `encoder.0.weight` → `encoder.0`."""
    module, dot, _ = parameter.rpartition(".")
    return to_name(module if dot else parameter)


def common_module(names: list[str]) -> str:
    """First component shared by all names, `` if there is none: `policy.0.weight`… → `policy`."""
    heads = {name.split(".", 1)[0] for name in names if "." in name}
    return heads.pop() if len(heads) == 1 and all("." in name for name in names) else ""


def is_recurrent(modules: Iterable[Any]) -> bool:
    """True if a module is a recurrent layer of torch or is named like one."""
    import torch

    pattern = re.compile(r"rnn|gru|lstm|ssm|mamba|recurrent|s4|s6", re.IGNORECASE)
    for root in modules:
        for module in root.modules():
            kind = type(module)
            if issubclass(kind, torch.nn.RNNBase | torch.nn.RNNCellBase):
                return True
            if pattern.search(kind.__name__):
                return True
    return False
