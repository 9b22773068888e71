"""The optimizers of this process: their scope, the layers of their parameters, who owns what.

Optimizers are held weakly: the training's memory is not ours to keep. Training thread only.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nanwatch.contract.limits import to_name
from nanwatch.control.learning_rate import share_factor
from nanwatch.probes import discovery, sharded
from nanwatch.probes.clipping import Clip

LETTERS = 2
"""`opt_g` and `od` say less than the name of the one module they step."""
LOOKS_MOST = 4


@dataclass(slots=True)
class Layout:
    """Where each parameter of an optimizer belongs. Positions follow the parameter groups."""

    names: list[str]
    layers: list[str]
    layer_of: list[int]
    """Position of a parameter → index in `layers`."""
    position_of: dict[int, int] = field(default_factory=dict)
    """`id(parameter)` → its position."""
    positions: list[int] = field(default_factory=list)
    """Positions measured last: one list for all attempts that measure the same."""
    combine: tuple[Any, Any] = (None, None)
    """(positions, `gradients.Combine` for them); background thread."""
    sizes: list[int] = field(default_factory=list)
    """Elements of each parameter, by position."""
    unreached: dict[int, int] = field(default_factory=dict)
    """Layer some of whose weights had a gradient of 0 → its series; background thread."""
    sharded: bool = False
    """True if its parameters are spread over ranks: norms here are parts of those of the run."""
    shares: tuple[Any, Any] = (None, None)
    """(positions, `sharded.shares` for them)."""

    def same_as_before(self, positions: list[int]) -> list[int]:
        """The list of the attempt before if it is equal, so that whoever works by it need not
        look at each position again."""
        if positions != self.positions:
            self.positions = positions
        return self.positions


@dataclass(slots=True, eq=False)
class Known:
    """What we know of one optimizer."""

    number: int
    ref: weakref.ref[Any]
    scope: str = ""
    variable: str = ""
    """What the script called it when it was named."""
    away: bool = False
    """Another optimizer has taken its variable, so it is taken for gone; see `name_from_frames`."""
    came_back: bool = False
    """It was not gone: never again taken for it."""
    named: bool = False
    layout: Layout | None = None
    parameter_count: int = -1
    clips: list[Clip] = field(default_factory=list)
    """Clipping calls of the attempt that is open."""
    free: list[tuple[Any, Any]] = field(default_factory=list)
    """(`gradients.Share`, norms) that they left behind."""
    clipped: bool = False
    """Gradients were changed by a clipping whose norms are unknown: too late to measure."""
    norms: Any = None
    """`gradients.Norms` of the attempt that is open, if measured already."""
    witness: weakref.ref[Any] | None = None
    """A parameter that had a gradient after the last backward pass."""
    witness_version: int = 0
    scaler: Any = None
    looks: int = 0
    """How often some of its parameters were in no module."""
    by_closure: bool = False
    """Its gradients come into being inside the step (LBFGS, Lightning): measure after it."""
    factor: float = 1.0
    """LR factor last seen on it, for the optimizer that takes its place."""

    @property
    def optimizer(self) -> Any:
        """The optimizer, or None if it is gone."""
        return self.ref()

    def remember_witness(self) -> None:
        """After a backward pass: a parameter with a gradient, and which values it had."""
        before = self.witness() if self.witness is not None else None
        if before is not None and before.grad is not None:
            self.witness_version = before._version
            return
        optimizer = self.optimizer
        for group in optimizer.param_groups if optimizer is not None else ():
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.witness = weakref.ref(parameter)
                    self.witness_version = parameter._version
                    return

    def changed_by_hand(self) -> bool:
        """True if weights moved since the last backward pass without the optimizer."""
        witness = self.witness() if self.witness is not None else None
        return witness is not None and witness._version != self.witness_version

    def forget_attempt(self) -> None:
        """Its attempt has closed: what was seen of it is of no use for the next."""
        self.norms, self.clipped = None, False
        self.clips, self.free = [], []

    def first_parameters(self, most: int) -> list[Any]:
        """The first of its parameters, without going through all of them."""
        found: list[Any] = []
        optimizer = self.ref()
        for group in optimizer.param_groups if optimizer is not None else ():
            found += group["params"][: most - len(found)]
            if len(found) >= most:
                break
        return found

    def parameters(self) -> list[Any]:
        """Parameters in the order of the groups."""
        optimizer = self.ref()
        if optimizer is None:
            return []
        return [p for group in optimizer.param_groups for p in group["params"]]


class Registry:
    """Known optimizers by number, and the owner of every parameter."""

    def __init__(self) -> None:
        self.known: dict[int, Known] = {}
        self._numbers: dict[int, int] = {}
        self._next = 0
        self._owner_of: dict[int, int] = {}
        self._stale = True
        self.unnamed = False
        """True if an optimizer has no name or layout yet."""
        self.watched: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        """Modules that the user named; weak, like everything of the user's."""
        self.trained: list[weakref.ref[Any]] = []
        """Those of `roots` that hold a parameter of an optimizer, as of the last search."""
        self.roots: dict[str, weakref.ref[Any]] = {}
        self.recurrent = False
        self.gone: list[int] = []
        """Numbers of optimizers that died since someone last looked."""

    def add(self, optimizer: Any) -> Known:
        """Known record of an optimizer, made when it is new."""
        number = self._numbers.get(id(optimizer))
        if number is not None and self.known[number].optimizer is optimizer:
            self._welcome(self.known[number])
            return self.known[number]
        inner = discovery.wrapped_optimizer(optimizer)
        if inner is not None:
            return self.add(inner)
        number = self._next
        self._next += 1
        key = id(optimizer)

        def forget(_: Any, number: int = number, key: int = key) -> None:
            if self._numbers.get(key) == number:
                del self._numbers[key]
            self.gone.append(number)
            self._stale = True

        known = Known(number, weakref.ref(optimizer, forget))
        self.known[number] = known
        self._numbers[key] = number
        self._stale = self.unnamed = True
        return known

    def _welcome(self, known: Known) -> None:
        """One that was taken for gone is used again: it needs a name beside its successor's."""
        if known.away:
            known.away, known.came_back, known.named = False, True, False
            self._stale = self.unnamed = True

    def find(self, optimizer: Any) -> Known | None:
        """Known record, or None."""
        number = self._numbers.get(id(optimizer))
        if number is None and (inner := discovery.wrapped_optimizer(optimizer)) is not None:
            return self.find(inner)
        return self.known.get(number) if number is not None else None

    def live(self) -> Iterator[Known]:
        """Optimizers that still exist and are in use."""
        for known in list(self.known.values()):
            if known.optimizer is not None and not known.away:
                yield known

    def take_gone(self) -> list[Known]:
        """Optimizers that died, once."""
        gone, self.gone = self.gone, []
        return [known for number in gone if (known := self.known.pop(number, None)) is not None]

    def owner_of(self) -> dict[int, int]:
        """`id(parameter)` → number of its optimizer."""
        if self._stale:
            self._owner_of = {
                id(parameter): known.number
                for known in self.live()
                for parameter in known.parameters()
            }
            self._stale = False
        return self._owner_of

    def refresh(self, known: Known) -> None:
        """Notice that parameters were added to an optimizer."""
        count = 0
        for group in known.optimizer.param_groups:
            count += len(group["params"])
        if count != known.parameter_count:
            known.parameter_count = count
            share_factor(known.optimizer)
            known.layout = None
            self._stale = self.unnamed = True

    def forget_names(self) -> None:
        """Name everything again: the user said more."""
        for known in self.live():
            known.named, known.layout = False, None
        self.unnamed = True

    # --- names -----------------------------------------------------------------------------------

    def name_all(self) -> None:
        """Give every live optimizer its scope and layout. Walks the running frames."""
        self._name(discovery.root_modules(), list(self.live()))

    def name_from_frames(self) -> list[Known] | None:
        """The same without a scan of all objects: None where variables of the running frames do
        not hold the models of all new optimizers.

        Returns those whose variable now holds another one. They are taken for gone, though
        something (a scheduler, often) may keep them alive until the next collection, and are
        known again if they are used after all.
        """
        roots = discovery.modules_in_frames()
        live = list(self.live())
        within = {id(p) for root in [*self.watched.values(), *roots] for p in root.parameters()}
        new = [known for known in live if not known.named or known.layout is None]
        if not all(id(p) in within for known in new for p in known.parameters()):
            return None
        held = discovery.names_in_frames([known.optimizer for known in live])
        again = {held.get(id(known.optimizer), "") for known in new} - {""}
        replaced = [
            known
            for known in live
            if known not in new
            and id(known.optimizer) not in held
            and known.variable in again
            and not known.came_back
        ]
        for known in replaced:
            known.away = True
        self._stale = True
        self._name(roots, [known for known in live if not known.away], only_more=True)
        return replaced

    def _name(self, roots: list[Any], live: list[Known], only_more: bool = False) -> None:
        self.unnamed = False
        optimizers = [known.optimizer for known in live]
        names = discovery.names_in_frames([*roots, *optimizers])
        names.update({id(module): name for name, module in self.watched.items()})
        self.recurrent = self.recurrent or discovery.is_recurrent(roots)
        self._remember_roots(roots, names, only_more)
        owners = self.owner_of()
        roots_now = list(self.roots.values())
        self.trained = [
            ref
            for ref in roots_now
            if (root := ref()) is not None and any(id(p) in owners for p in root.parameters())
        ] or roots_now  # sharded modules hold others than their optimizer
        parameters = discovery.parameter_names([*self.watched.values(), *roots], names)
        in_use = {known.scope for known in live if known.named}
        for known in live:
            if known.named:
                continue
            known.scope = self._unique(self._scope(known, len(live), names, parameters), in_use)
            known.variable = names.get(id(known.optimizer), "")
            known.named = True
            in_use.add(known.scope)
        for known in live:
            if known.layout is None:
                own = known.parameters()
                known.parameter_count = len(own)
                known.layout = self._layout(known, own, parameters)

    def _layout(
        self, known: Known, mine: list[Any], names: dict[int, tuple[str, str]]
    ) -> Layout | None:
        """None to look again at the next event: FSDP puts other parameters into its modules
        between a forward pass and the end of the backward pass."""
        layout = layout_of(mine, names)
        if layout.sharded and known.looks < LOOKS_MOST and any(id(p) not in names for p in mine):
            known.looks += 1
            self.unnamed = True
            return None
        return layout

    def _remember_roots(self, roots: list[Any], names: dict[int, str], only_more: bool) -> None:
        """`only_more`: others may exist that were not looked for; those known are kept."""
        before = self.roots if only_more else {}
        self.roots = {}
        for root in [*self.watched.values(), *roots]:
            if any(ref() is root for ref in self.roots.values()):
                continue
            base = to_name(names.get(id(root)) or type(root).__name__.lower())
            name, number = base, 2
            while name in self.roots:
                name, number = f"{base}{number}", number + 1
            self.roots[name] = weakref.ref(root)
        here = {id(module) for ref in self.roots.values() if (module := ref()) is not None}
        for name, ref in before.items():
            if name not in self.roots and (module := ref()) is not None and id(module) not in here:
                self.roots[name] = ref

    def _scope(
        self,
        known: Known,
        count: int,
        names: dict[int, str],
        parameters: dict[int, tuple[str, str]],
    ) -> str:
        owned = [parameters[id(p)] for p in known.parameters() if id(p) in parameters]
        roots = sorted({root for root, _ in owned})
        watched = [root for root in roots if root in self.watched]
        if watched and (count > 1 or len(self.watched) > 1):
            return "+".join(watched).replace("+", "-")
        if count == 1:
            return ""
        variable = discovery.scope_from_variable(names.get(id(known.optimizer), ""))
        if len(variable) > LETTERS or (variable and len(roots) != 1):
            return variable
        module = discovery.common_module([name for _, name in owned]) if len(roots) == 1 else ""
        return module or "-".join(roots[:3]) or variable or f"optimizer{known.number}"

    @staticmethod
    def _unique(scope: str, in_use: set[str]) -> str:
        name, number = scope, 2
        while name in in_use:
            name, number = f"{scope or 'optimizer'}{number}", number + 1
        return to_name(name) if name else ""


def layout_of(parameters: list[Any], names: dict[int, tuple[str, str]]) -> Layout:
    """Names and layers of the parameters of one optimizer."""
    found = [names.get(id(p), ("", f"parameter{i}")) for i, p in enumerate(parameters)]
    several = len({root for root, _ in found}) > 1
    full = [f"{root}.{name}" if several and root else name for root, name in found]
    layers: list[str] = []
    index: dict[str, int] = {}
    layer_index: list[int] = []
    for name in full:
        layer = discovery.layer_of(name)
        if layer not in index:
            index[layer] = len(layers)
            layers.append(layer)
        layer_index.append(index[layer])
    position_of: dict[int, int] = {}
    for position, parameter in enumerate(parameters):
        position_of.setdefault(id(parameter), position)
    spread = any(map(sharded.is_sharded, parameters))
    sizes = [_elements(parameter) for parameter in parameters]
    return Layout(full, layers, layer_index, position_of, sizes=sizes, sharded=spread)


def _elements(parameter: Any) -> int:
    try:
        return int(parameter.numel())
    except ValueError:
        return 0  # a lazy one that has no shape yet
