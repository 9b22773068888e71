"""Finds its way in a checkpoint's tree: sections of tensors, optimizers, scalers, counters, config.

Knows keys and paths, never numbers; torch only to tell a tensor. Called in a child by `reading`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nanwatch.forensics.checkpoint.opening import Stored
from nanwatch.probes.discovery import clean

DEPTH_MOST = 16
LEAVES_MOST = 200_000
CONFIG_MOST = 500
CONFIG_CHARS = 80

_COUNTERS = ("step", "global_step", "steps", "iteration", "iter", "num_updates", "epoch", "epochs",
             "batch", "batch_idx", "total_steps", "it", "update", "num_timesteps")  # fmt: skip
_CONFIGS = ("config", "cfg", "args", "hparams", "hyper_parameters", "hyperparameters", "configs",
            "options", "model_args", "train_args", "training_args", "settings")  # fmt: skip
_COPY = re.compile(
    r"(?:^|[._])(ema|target|targ|teacher|shadow|averaged|swa|momentum_encoder|polyak)"
    r"(?=$|[._\d])", re.IGNORECASE
)  # fmt: skip
_DATA = re.compile(
    r"(?:^|\.)(replay|reservoir|rollout|(\w+_)?(buffer|memory))s?(_\w+)?(?:$|\.)", re.I
)
_RANDOM = re.compile(r"(?:^|[._])(rng|random|cuda_rng|torch_rng|generator)", re.IGNORECASE)
_DULL = ("state_dict", "model_state_dict", "model", "module", "modules", "net", "network",
         "weights", "params", "student", "online", "model_state")  # fmt: skip


@dataclass(slots=True)
class Leaf:
    """A tensor and where it stands."""

    section: str
    name: str
    tensor: Any
    """The tensor, or `Stored`."""

    def load(self) -> Any:
        """The tensor itself."""
        return self.tensor.load() if isinstance(self.tensor, Stored) else self.tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Without reading it."""
        return () if getattr(self.tensor, "is_nested", False) else tuple(self.tensor.shape)

    @property
    def floating(self) -> bool:
        """True for real and complex numbers."""
        if isinstance(self.tensor, Stored):
            return self.tensor.floating
        return self.tensor.is_floating_point() or self.tensor.is_complex()

    @property
    def ordered(self) -> bool:
        """False where the file does not keep the order of the model (safetensors sorts by name)."""
        return not isinstance(self.tensor, Stored)

    @property
    def bytes(self) -> int:
        """What it takes, without reading it."""
        if isinstance(self.tensor, Stored):
            return math.prod(self.shape) * 4
        return self.tensor.numel() * self.tensor.element_size()

    @property
    def key(self) -> str:
        """The same for the same tensor in another checkpoint of this training."""
        return f"{self.section}: {self.name}" if self.section else self.name

    @property
    def is_copy(self) -> bool:
        """Perhaps an EMA, teacher or target copy, by its name."""
        return _COPY.search(self.section) is not None or _COPY.search(self.name) is not None

    @property
    def is_data(self) -> bool:
        """Stored samples rather than weights, by its section."""
        return _DATA.search(self.section) is not None

    @property
    def original(self) -> str:
        """What a copy is a copy of, as compared across sections: the name without such words."""
        words = f"{self.section}.{self.name}".split(".")
        kept = [_COPY.sub("", word).strip("_") for word in words]
        return ".".join(word for word in kept if word and word not in _DULL)


@dataclass(slots=True)
class Layout:
    """Everything found in the files of one checkpoint."""

    leaves: list[Leaf] = field(default_factory=list)
    optimizers: dict[str, Mapping[Any, Any]] = field(default_factory=dict)
    scalers: dict[str, dict[str, float]] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    nan_values: list[str] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    writer: str = ""
    left_out: int = 0
    seen: set[int] = field(default_factory=set)


def explore(layout: Layout, tree: Any, section: str = "") -> None:
    """Add what lies in one file to `layout`."""
    if isinstance(tree, Mapping):
        layout.writer = layout.writer or _writer(tree)
    _visit(layout, tree, tuple(section.split(".")) if section else ())


def _writer(tree: Mapping[Any, Any]) -> str:
    if "pytorch-lightning_version" in tree:
        return "Lightning"
    if tree.get("format") == 1 and {"modules", "optimizers", "step"} <= set(tree):
        return "nanwatch"
    return ""


def _visit(layout: Layout, value: Any, path: tuple[str, ...]) -> None:
    if is_tensor(value):
        _leaf(layout, value, path)
    elif isinstance(value, Mapping):
        if len(path) < DEPTH_MOST and id(value) not in layout.seen:
            layout.seen.add(id(value))
            _mapping(layout, value, path)
    elif isinstance(value, list | tuple):
        if len(path) < DEPTH_MOST and id(value) not in layout.seen:
            layout.seen.add(id(value))
            if len(value) > LEAVES_MOST:
                layout.left_out += 1
                return
            for number, inner in enumerate(value):
                _visit(layout, inner, (*path, str(number)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(layout, float(value), path)


def _mapping(layout: Layout, value: Mapping[Any, Any], path: tuple[str, ...]) -> None:
    if is_optimizer(value):
        layout.optimizers[_section(path) or "optimizer"] = value
        return
    if {"scale", "growth_factor", "backoff_factor"} <= set(value):
        scaler = {str(k): _plain(v) for k, v in value.items()}
        layout.scalers[_section(path)] = {k: v for k, v in scaler.items() if v is not None}
        return
    for key, inner in value.items():
        if _text(key) in _CONFIGS and not is_tensor(inner):
            _config(layout, inner, "")
        else:
            _visit(layout, inner, (*path, _text(key)))


def _leaf(layout: Layout, tensor: Any, path: tuple[str, ...]) -> None:
    if len(layout.leaves) >= LEAVES_MOST:
        layout.left_out += 1
        return
    joined = ".".join(path)
    if _RANDOM.search(joined):
        return
    counter = 0 < len(path) <= 2 and path[len(path) - 1] in _COUNTERS
    if counter and not isinstance(tensor, Stored) and tensor.ndim == 0:
        _number(layout, float(tensor), path)
        return
    # In a flat state dict the last key is the whole name; nested ones are a section each.
    name = clean(path[-1]) if path else "tensor"
    layout.leaves.append(Leaf(_section(path[:-1]), name, tensor))


def _number(layout: Layout, value: float, path: tuple[str, ...]) -> None:
    name = ".".join(path)
    if math.isnan(value):
        if len(layout.nan_values) < 20:
            layout.nan_values.append(name)
    elif path and path[-1] in _COUNTERS and len(path) <= 2 and math.isfinite(value):
        layout.counters.setdefault(name, value)


def _config(layout: Layout, value: Any, name: str) -> None:
    if len(layout.config) >= CONFIG_MOST or name.count(".") > 4:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _config(layout, inner, f"{name}.{_text(key)}" if name else _text(key))
    elif isinstance(value, str | int | float | bool) and name:
        layout.config[name] = str(value)[:CONFIG_CHARS]
    elif hasattr(value, "__dict__") and not is_tensor(value):
        _config(layout, vars(value), name)


def _section(path: tuple[str, ...]) -> str:
    """A path as people name it: without the words that every checkpoint has."""
    kept = list(path)
    while kept and kept[0] in ("modules", "state_dict", "optimizers", "optimizer_states", "others"):
        kept.pop(0)
    return ".".join(kept)


def _text(key: Any) -> str:
    return key if isinstance(key, str) else str(key)[:200]


def _plain(value: Any) -> float | None:
    if is_tensor(value) and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


# --- what a value is -----------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """True for a tensor, also one that is still in its file."""
    import torch

    return isinstance(value, torch.Tensor | Stored)


def is_optimizer(value: Any) -> bool:
    """True for the `state_dict` of an optimizer."""
    if not isinstance(value, Mapping):
        return False
    state, groups = value.get("state"), value.get("param_groups")
    return isinstance(state, Mapping) and isinstance(groups, list)


def states_of(optimizer: Mapping[Any, Any]) -> Iterator[tuple[Any, Mapping[Any, Any]]]:
    """(index or name, state) of each parameter of an optimizer, in the order of its groups."""
    state = optimizer["state"]
    groups = [g for g in optimizer["param_groups"] if isinstance(g, Mapping)]
    order = [key for group in groups for key in group.get("params", ())]
    known = set(map(_text, order))
    for key in [*order, *(key for key in state if _text(key) not in known)]:
        inner = state.get(key)
        if isinstance(inner, Mapping):
            yield key, inner
