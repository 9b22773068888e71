"""`--script`: builds the user's model, runs one forward and one backward pass, takes the gradients.

The only part of `diagnose` that runs code of the user. Called in a child of its own by `child`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nanwatch.forensics import graph, trace_report
from nanwatch.forensics.checkpoint.facts import BackwardFacts, GradientFacts, Job, TimeFacts
from nanwatch.forensics.checkpoint.formats import Unusable
from nanwatch.forensics.checkpoint.layout import Leaf
from nanwatch.forensics.checkpoint.reading import Checkpoint, Say
from nanwatch.forensics.names import Names, add_root
from nanwatch.forensics.tracing import Call, Trace, Tracer
from nanwatch.forensics.verdict import from_gradients
from nanwatch.probes.discovery import clean, is_recurrent, layer_of, root_modules

_PACKAGE = str(Path(__file__).parents[2])

LOOP_LEAST = 8
"""Calls of one layer in one forward pass that count as a loop through time."""

GROWTH_POINTS = 6
LOADED_LEAST = 0.5
"""Share of a model's tensors that must be in the checkpoint."""

EXPECTED = (
    "expected `factory()` or `factory(checkpoint)` to return (model, loss_fn), where "
    "loss_fn(model) or loss_fn() computes the loss, or a callable that computes it"
)


def run_script(job: Job, opened: Checkpoint, say: Say) -> BackwardFacts:
    """One forward and one backward pass. Raises Unusable, with the user's traceback where it is."""
    facts = BackwardFacts(job.script)
    say(f"running {job.script}", 0, 3)
    began = time.monotonic()
    factory = _imported(job)
    made = _user(job, "the factory", lambda: _call(factory, opened, job.arguments))
    modules, loss_fn = _unpack(made)
    if modules is not None and not _takes_checkpoint(factory):
        facts.notes.append(_load(modules, opened))
    if modules is None:
        modules = {_plain_name(root, n): root for n, root in enumerate(root_modules())}
    if not modules:
        raise Unusable(f"{job.script}: no model with parameters was found; {EXPECTED}")
    names = Names()
    for name, module in modules.items():
        add_root(names, name or type(module).__name__.lower(), f"{name}." if name else "", module)
    kept = list(names.parameters)
    facts.recurrent = is_recurrent(modules.values())
    for number in range(max(job.repeat, 1)):
        say("forward and backward", 1 + number, 2 + max(job.repeat, 1))
        for _, parameter in kept:
            parameter.grad = None
        if number == 0:
            _traced(facts, job, loss_fn, modules, names, kept)
        else:
            _user(job, "the loss", lambda: _loss_of(loss_fn()).backward())
        facts.totals.append(_total(kept))
    facts.seconds = time.monotonic() - began
    return facts


# --- the user's code -----------------------------------------------------------------------------


def _imported(job: Job) -> Callable[..., Any]:
    where, colon, attribute = job.script.rpartition(":")
    if not colon or not where or not attribute.isidentifier():
        raise Unusable(f"expected --script MODULE:FACTORY or FILE.py:FACTORY, got {job.script!r}")
    sys.path.insert(0, job.directory)
    module = _user(job, f"importing {where}", lambda: _module(job, where))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise Unusable(f"{where} has no function {attribute}: {EXPECTED}")
    return factory


def _module(job: Job, where: str) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    path = Path(job.directory) / where
    if not path.is_file():
        raise Unusable(f"--script: there is no {path}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _user(job: Job, what: str, do: Callable[[], Any]) -> Any:
    """Run code of the user; its errors come with the last lines of their traceback."""
    try:
        return do()
    except Unusable:
        raise
    except (Exception, SystemExit) as error:
        raise _raised(job, what, error) from error


def _raised(job: Job, what: str, error: BaseException) -> Unusable:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f for f in frames if not f.filename.startswith(_PACKAGE)][-3:]
    lines = "".join(f"\n  {f.filename}:{f.lineno} in {f.name}: {f.line}" for f in places)
    text = str(error).strip().partition("\n")[0][:400]
    return Unusable(f"{job.script}: {what} raised {type(error).__name__}: {text}{lines}")


def _takes_checkpoint(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and (p.default is p.empty or p.name == "checkpoint")
        for p in parameters
    )


def _call(factory: Callable[..., Any], opened: Checkpoint, arguments: dict[str, Any]) -> Any:
    if _takes_checkpoint(factory):
        return factory(opened.tree, **arguments)
    return factory(**arguments)


def _unpack(made: Any) -> tuple[dict[str, Any] | None, Callable[[], Any]]:
    """(modules by name, none if they are to be found; what computes the loss)."""
    import torch

    if isinstance(made, tuple) and len(made) == 2 and callable(made[1]):
        model, loss_fn = made
        if isinstance(model, torch.nn.Module):
            modules: dict[str, Any] = {"": model}
        elif isinstance(model, Mapping) and all(
            isinstance(m, torch.nn.Module) for m in model.values()
        ):
            modules = {str(name): module for name, module in model.items()}
        else:
            raise Unusable(f"the model is {type(model).__name__}, no torch.nn.Module; {EXPECTED}")
        try:
            wants = len(inspect.signature(loss_fn).parameters) > 0
        except (TypeError, ValueError):
            wants = True
        return modules, (lambda: loss_fn(model)) if wants else loss_fn
    if callable(made):
        return None, made
    raise Unusable(f"the factory returned {type(made).__name__}; {EXPECTED}")


def _plain_name(root: Any, number: int) -> str:
    return f"{type(root).__name__.lower()}{number or ''}"


def _loss_of(result: Any) -> Any:
    """The loss in what the user's function returned: itself, the first, `loss` of it."""
    import torch

    found = result
    if isinstance(result, Mapping):
        found = result.get("loss")
    elif isinstance(result, tuple | list) and result:
        found = result[0]
    elif not isinstance(result, torch.Tensor):
        found = getattr(result, "loss", result)
    if not isinstance(found, torch.Tensor) or found.numel() != 1 or not found.requires_grad:
        what = type(found).__name__
        if isinstance(found, torch.Tensor):
            what = f"a tensor of shape {list(found.shape)}, requires_grad={found.requires_grad}"
        raise Unusable(f"expected the loss to be one number with a gradient, got {what}")
    return found.reshape(())


def _load(modules: dict[str, Any], opened: Checkpoint) -> str:
    """Put the checkpoint's weights into the models; says how much of them."""
    sections: dict[str, dict[str, Leaf]] = {}
    for leaf in opened.layout.leaves:
        sections.setdefault(leaf.section, {})[leaf.name] = leaf
    said = []
    for name, module in modules.items():
        state = module.state_dict()

        def fitting(found: dict[str, Leaf], state: Any = state) -> dict[str, Leaf]:
            prefixed = {clean(key): key for key in state}
            return {
                prefixed[key]: leaf
                for key, leaf in found.items()
                if key in prefixed and tuple(state[prefixed[key]].shape) == leaf.shape
            }

        named = [found for section, found in sections.items() if section.split(".")[-1] == name]
        best = max(map(fitting, named or list(sections.values())), key=len, default={})
        if len(best) < LOADED_LEAST * len(state) or not best:
            raise Unusable(
                f"only {len(best)} of {len(state)} tensors of the model {name or 'returned'} are "
                "in the checkpoint by name and shape: let the factory take the checkpoint and load "
                "it itself"
            )
        module.load_state_dict({key: leaf.load() for key, leaf in best.items()}, strict=False)
        said.append(f"{len(best)} of {len(state)} tensors{f' of {name}' if name else ''} loaded")
    return ", ".join(said)


# --- one attempt ---------------------------------------------------------------------------------


def _traced(
    facts: BackwardFacts,
    job: Job,
    loss_fn: Callable[[], Any],
    modules: dict[str, Any],
    names: Names,
    parameters: list[tuple[str, Any]],
) -> None:
    tracer = Tracer()
    tracer.arm(1, lambda: names)
    loss = None
    try:
        loss = _loss_of(loss_fn())
        facts.losses.append(float(loss.detach()))
        facts.chain = _longest_chain(loss)
        tracer.in_backward = True
        loss.backward()
    except Unusable:
        raise
    except Exception as error:
        what = "backward" if loss is not None else "forward"
        text = str(error).strip().partition("\n")[0][:300]
        facts.notes.append(f"the {what} pass raised {type(error).__name__}: {text}")
        _judge(facts, tracer.close(), parameters, modules)
        if not facts.verdict and not any(g.bad for g in facts.gradients):
            raise _raised(job, f"the {what} pass", error) from error
        return
    _judge(facts, tracer.close(), parameters, modules)


def _judge(
    facts: BackwardFacts,
    trace: Trace,
    parameters: list[tuple[str, Any]],
    modules: dict[str, Any],
) -> None:
    facts.gradients = [_gradient(name, p) for name, p in parameters if p.requires_grad]
    got = [g for g in facts.gradients if not g.missing]
    gradients = from_gradients(
        [layer_of(g.name) for g in got], [math.nan if g.bad else g.norm for g in got]
    )
    # Infinity or NaN: the norms above are of what is finite.
    verdict = trace_report.judge(trace, facts.losses[0] if facts.losses else None, gradients)
    if verdict is not None:
        facts.verdict, facts.text = verdict.verdict, verdict.text
        facts.first_forward, facts.first_backward = verdict.first_forward, verdict.first_backward
        facts.origin = verdict.facts.get("origin", "")
    facts.half_precision = any(c.autocast == "float16" for c in trace.calls)
    facts.times = _times(trace, facts.chain, modules)


def _gradient(name: str, parameter: Any) -> GradientFacts:
    import torch

    weight = float(torch.linalg.vector_norm(parameter.detach(), dtype=torch.float64))
    gradient = parameter.grad
    if gradient is None:
        return GradientFacts(name, parameter.numel(), 0.0, 0, True, weight)
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    values = values.detach()
    good = torch.isfinite(values)
    bad = int(values.numel() - good.sum())
    kept = values if not bad else values.masked_fill(~good, 0.0)
    norm = float(torch.linalg.vector_norm(kept, dtype=torch.float64))
    return GradientFacts(name, parameter.numel(), norm, bad, False, weight)


def _total(parameters: list[tuple[str, Any]]) -> float:
    found = [_gradient(name, p) for name, p in parameters if p.requires_grad]
    if any(g.bad for g in found):
        return math.inf
    return math.hypot(*(g.norm for g in found))


def _longest_chain(loss: Any) -> int:
    """Operations one after the other on the longest way from a leaf to the loss."""
    depth: dict[Any, int] = {}
    for node in graph.in_forward_order([loss]):
        below = (depth.get(following, 0) for following, _ in node.next_functions)
        depth[node] = 1 + max(below, default=0)
    return max(depth.values(), default=0)


# --- loops through time --------------------------------------------------------------------------


def _times(trace: Trace, chain: int, modules: dict[str, Any]) -> list[TimeFacts]:
    """Layers called again and again, one call after the other, and recurrent modules."""
    calls: dict[str, list[Call]] = {}
    for call in trace.calls:
        if not call.recomputed and not call.bare:
            calls.setdefault(call.name, []).append(call)
    found = [
        TimeFacts(name, len(of), _growth(trace, name))
        for name, of in calls.items()
        if len(of) >= LOOP_LEAST and len(of) <= chain
    ]
    firsts = {_first(name): root for name, root in modules.items()}
    for name, of in calls.items():
        if of[0].kind in ("RNN", "GRU", "LSTM") and of[0].ins:
            shape = of[0].ins[0].shape
            if len(shape) == 3:
                module = _module_at(firsts, name)
                steps = shape[1] if getattr(module, "batch_first", False) else shape[0]
                found.append(TimeFacts(name, steps))
    return sorted(found, key=lambda t: (-t.steps, -t.growth))[:5]


def _first(name: str) -> str:
    return f"{name}." if name else ""


def _module_at(roots: dict[str, Any], name: str) -> Any:
    for prefix, root in roots.items():
        if name.startswith(prefix):
            found = dict(root.named_modules()).get(name[len(prefix) :])
            if found is not None:
                return found
    return next((r for r in roots.values() if type(r).__name__.lower() == name), None)


def _growth(trace: Trace, name: str) -> float:
    """Factor by which the gradient of a layer's output grows from one call to the one before."""
    seen = trace.extremes()
    largest: dict[int, float] = {}
    for sight, index in trace.gradients:
        call = sight.made_by
        if call is None or call.name != name or sight.recomputed:
            continue
        value = max(abs(seen[index][0]), abs(seen[index][1]))
        if math.isfinite(value) and value > 0:
            largest[call.number] = max(largest.get(call.number, 0.0), value)
    if len(largest) < GROWTH_POINTS:
        return 1.0
    xs, ys = list(largest), [math.log(v) for v in largest.values()]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    slope /= sum((x - mx) ** 2 for x in xs)
    return math.exp(-slope)
