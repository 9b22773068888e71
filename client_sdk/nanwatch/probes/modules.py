"""Which modules are worth watching: roots, the parts of agents, and who is called like a critic.

Pure looking, no hooks; called by `calls` and by the probes that listen to it.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from inspect import getattr_static
from typing import Any

CHILDREN_MOST = 16
"""Children of one agent (`agent.actor`, `agent.critic`) that are watched."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_AGENT_WORDS = frozenset({"actor", "policy", "agent", "ac"})
_CRITIC_WORDS = frozenset(
    {"q", "qf", "qs", "qnet", "qnetwork", "qfunction", "qvalue", "vf", "dqn"}
    | {"critic", "critics", "value", "values"}
)
_Q_CLASS = re.compile(r"Q(?=Func|Net|Value|Critic|Head|$)")


def words_of(name: str) -> frozenset[str]:
    """`SoftQNetwork` → soft, q, network; `qf1_target` → qf, 1, target. Lower case."""
    return frozenset(word.lower() for word in _WORDS.findall(name))


def sounds_like_critic(name: str, class_name: str) -> bool:
    """True if a variable or its class is called like a critic, and not like an actor-critic."""
    words, of_class = words_of(name), words_of(class_name)
    if words & _CRITIC_WORDS and not words & _AGENT_WORDS:
        return True
    critic = bool(of_class & _CRITIC_WORDS) or _Q_CLASS.search(class_name) is not None
    return critic and not of_class & _AGENT_WORDS and not words & _AGENT_WORDS


def unwrapped(module: Any) -> Any:
    """What `torch.compile`, DataParallel and DDP put their wrapper around."""
    for _ in range(4):
        children = dict(module.named_children()) if hasattr(module, "named_children") else {}
        inner = children.get("_orig_mod") or (
            children.get("module") if "Parallel" in type(module).__name__ else None
        )
        if inner is None:
            break
        module = inner
    return module


def candidates(
    roots: dict[str, weakref.ref[Any]], owner_of: dict[int, int]
) -> Iterator[tuple[str, Any, Any | None]]:
    """(name, module, agent) of the roots, and of the parts of those roots that are agents.

    What is trained comes first: `agent.q1` is called `q1`, and its copy `agent_target.q1`.
    """
    import torch

    unimplemented = torch.nn.Module.forward
    taken: set[str] = set(roots)
    live = [(name, root) for name, ref in roots.items() if (root := ref()) is not None]
    live.sort(key=lambda pair: not any(id(p) in owner_of for p in pair[1].parameters()))
    for name, root in live:
        yield name, root, None
        inner = unwrapped(root)
        children = dict(inner.named_children())
        container = isinstance(
            inner, torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict
        )
        critics = [
            child
            for child, module in children.items()
            if sounds_like_critic(child, type(module).__name__)
        ]
        bodiless = getattr_static(type(inner), "forward", None) is unimplemented and not container
        if sounds_like_critic(name, type(inner).__name__) and not bodiless:
            continue
        if not bodiless and not critics:
            continue
        for child, module in list(children.items())[:CHILDREN_MOST]:
            if next(iter(module.parameters()), None) is None:
                continue
            full = child if child not in taken else f"{name}.{child}"
            taken.add(full)
            yield full, module, inner


def witness_of(module: Any) -> tuple[weakref.ref[Any], str, int] | None:
    for inner in module.modules():
        for name, parameter in inner.named_parameters(recurse=False):
            if type(inner._parameters) is dict:
                return weakref.ref(inner), name, id(parameter)
    return None
