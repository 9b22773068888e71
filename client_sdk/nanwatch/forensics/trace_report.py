"""Judges one traced attempt: who made the first value that is not finite, and who passed it on.

Pure bookkeeping over what `tracing` saw; background thread.
"""

from __future__ import annotations

import math
from typing import Literal

from nanwatch.contract.limits import to_name
from nanwatch.forensics.tracing import Call, Sight, Trace
from nanwatch.forensics.verdict import NAMES_MOST, Verdict, several

Extremes = list[tuple[float, float, bool]]


def judge(trace: Trace, loss: float | None, gradients: Verdict) -> Verdict | None:
    """The verdict of a traced attempt; None if all of it was finite.

    `loss` is the attempt's loss, if known; `gradients` what the gradient norms alone say.
    """
    seen = trace.extremes()
    forward = [s for s in trace.sights if not s.recomputed]
    loss_bad = loss is not None and not math.isfinite(loss)
    first = _first(forward, seen) if loss_bad or _has_nan(forward, seen) else None
    if first is not None:
        found = _forward(trace, first, seen)
    elif loss_bad:
        found = Verdict(
            "loss",
            "overflow" if loss is not None and math.isinf(loss) else "nan",
            text="Every module's output was finite, the loss was not: it went bad in the loss "
            "function or what comes after the model.",
            certain=trace.left_out == 0,
        )
    else:
        found = _backward(trace, seen, gradients)
    if found is None:
        return None
    found.first_backward = found.first_backward or gradients.first_backward
    if trace.left_out:
        found.facts["tensors left out"] = str(trace.left_out)
    return found


def _bad(sight: Sight, seen: Extremes) -> bool:
    low, high, _ = seen[sight.index]
    return not (math.isfinite(low) and math.isfinite(high))


def _has_nan(sights: list[Sight], seen: Extremes) -> bool:
    return any(math.isnan(seen[s.index][0]) for s in sights)


def _first(sights: list[Sight], seen: Extremes) -> Sight | None:
    """The first bad tensor. Minus infinity alone is how masks are written: it counts only if
    what was seen after it is bad throughout, up to the first NaN or the end."""
    run: Sight | None = None
    for sight in sights:
        low, high, _ = seen[sight.index]
        if math.isfinite(low) and math.isfinite(high):
            run = None
        elif math.isnan(low) or high == math.inf:
            return run or sight
        else:
            run = run or sight
    return run


# --- forward -------------------------------------------------------------------------------------


def _forward(trace: Trace, first: Sight, seen: Extremes) -> Verdict:
    call = first.made_by
    outgrown = call is not None and any(_near_limit(s, seen) for s in call.ins)
    overflow = outgrown or not math.isnan(seen[first.index][0])
    cause: Literal["nan", "overflow", "unknown"] = "overflow" if overflow else "nan"
    verdict = Verdict("layer", cause, certain=trace.left_out == 0)
    what = _what(first, seen)
    if call is not None:
        _made(verdict, trace, call, what)
    else:
        _came_in(verdict, trace, first, what)
    verdict.producers, verdict.propagators = _roles(trace, seen)
    if verdict.first_forward and verdict.verdict == "layer" and not _poisoned(trace):
        known = [p for p in verdict.producers if p != verdict.first_forward]
        verdict.producers = [verdict.first_forward, *known][:NAMES_MOST]
    if cause == "overflow":
        verdict.text += " Infinities came before any NaN: numbers outgrew their type."
    if verdict.propagators:
        verdict.text += f" Only passed on by {several(verdict.propagators)}."
    if call is not None and call.autocast:
        verdict.facts["autocast"] = call.autocast
    verdict.facts["tensor"] = f"{first.dtype} {list(first.shape)}"
    return verdict


def _what(sight: Sight, seen: Extremes) -> str:
    low, high, infinite = seen[sight.index]
    if math.isnan(low):
        return "NaN and Inf" if infinite else "NaN"
    return "Inf" if high == math.inf else "-Inf"


def _poisoned(trace: Trace) -> bool:
    return trace.scan is not None and bool(trace.scan.bad_parameters())


def _made(verdict: Verdict, trace: Trace, call: Call, what: str) -> None:
    """A module's output is the first bad tensor."""
    name = _named(call)
    verdict.first_forward = to_name(call.name)
    if call.number > 1:
        verdict.facts["call"] = str(call.number)
    own = _own_bad(trace, call)
    if trace.scan is not None and trace.scan.everywhere:
        verdict.verdict, verdict.certain = "all_at_once", False
        verdict.first_forward = ""
        verdict.facts["origin"] = "parameters"
        verdict.text = (
            "All trainable parameters were not finite before this forward pass began: an earlier "
            "update poisoned them, and nothing can be told from where it shows now."
        )
    elif own:
        verdict.facts["origin"] = "parameters"
        verdict.text = (
            f"{name} gave out {what} because its own numbers were not finite before this forward "
            f"pass began ({several(own)}): they were poisoned earlier. Its inputs were finite."
        )
    elif call.parent is None and call.bare and _after_a_model(trace, call):
        verdict.verdict = "loss"
        verdict.first_forward = to_name(call.name)
        verdict.text = f"The model's outputs were finite; {name} ({call.kind}) made {what} of them."
    else:
        inner = call.last_child
        within = f" An operation of its own forward did it, after {_named(inner)}." if inner else ""
        verdict.text = (
            f"{name} ({call.kind}) is the first whose output was not finite: its inputs and its "
            f"parameters were finite, it gave out {what}.{within}"
        )


def _came_in(verdict: Verdict, trace: Trace, first: Sight, what: str) -> None:
    """The first bad tensor came into a module and no module had made it."""
    call = first.seen_in
    if call is None:
        return
    outer = call.parent
    earlier = trace.calls[: trace.calls.index(call)]
    if outer is not None and (outer.last_child is not None or outer.ins):
        inside = [c for c in earlier if c.parent is outer]
        after = f" after {_named(inside[-1])} and" if inside else ""
        verdict.first_forward = to_name(outer.name)
        verdict.text = (
            f"An operation in the forward of {_named(outer)} ({outer.kind}) made {what},{after} "
            f"before {_named(call)}; everything before it was finite."
        )
    elif any(c.parent is None and not c.bare and c.outs for c in earlier):
        verdict.verdict = "loss" if call.bare else "layer"
        last = next(c for c in reversed(earlier) if c.parent is None and c.outs)
        verdict.first_forward = "" if call.bare else to_name(call.name)
        verdict.text = (
            f"An operation between {_named(last)}, whose output was finite, and {_named(call)} "
            f"made {what}, outside any module."
        )
    else:
        verdict.verdict, verdict.certain = "not_found", True
        verdict.facts["origin"] = "data"
        verdict.text = (
            f"No module made it: what came into {_named(call)} from outside held {what} already. "
            "Look at the batch."
        )


def _named(call: Call) -> str:
    return f"{call.name} (call {call.number})" if call.number > 1 else call.name


def _own_bad(trace: Trace, call: Call) -> list[str]:
    """Parameters and buffers of this very module that were bad before the forward pass."""
    if trace.scan is None:
        return []
    bad = [*trace.scan.bad_parameters(), *trace.scan.bad_buffers()]
    return [name for name in bad if name.rpartition(".")[0] == call.name]


def _after_a_model(trace: Trace, call: Call) -> bool:
    earlier = trace.calls[: trace.calls.index(call)]
    return any(c.parent is None and not c.bare for c in earlier)


def _near_limit(sight: Sight, seen: Extremes) -> bool:
    """So large that a product or a sum of such numbers leaves the type."""
    low, high, infinite = seen[sight.index]
    largest = max(abs(low), abs(high))
    bound = math.sqrt(sight.limit) if sight.limit > 1e30 else sight.limit / 64
    return infinite or largest > bound


def _roles(trace: Trace, seen: Extremes) -> tuple[list[str], list[str]]:
    """(modules that made it of finite inputs, modules that passed it on), innermost ones only."""
    bad_inside: set[int] = set()
    producers: dict[str, None] = {}
    propagators: dict[str, None] = {}
    calls = [call for call in trace.calls if not call.recomputed]
    for call in reversed(calls):  # children before their parents
        if not any(_bad(s, seen) for s in call.outs):
            continue
        parent = call.parent
        if parent is not None:
            bad_inside.add(id(parent))
        if id(call) in bad_inside:
            continue
        came_in = any(_bad(s, seen) for s in call.ins)
        (propagators if came_in else producers)[to_name(call.name)] = None
    poisoned = set(trace.scan.bad_layers()) if trace.scan is not None else set()
    made = [name for name in reversed(producers) if name not in poisoned]
    passed = [name for name in reversed(propagators) if name not in producers]
    return made[:NAMES_MOST], passed[:NAMES_MOST]


# --- backward ------------------------------------------------------------------------------------


def _backward(trace: Trace, seen: Extremes, gradients: Verdict) -> Verdict | None:
    """The forward pass and the loss were finite: look at the gradients, in their order."""
    bad = [
        (sight, index)
        for sight, index in trace.gradients
        if not all(math.isfinite(v) for v in seen[index][:2])
    ]
    if not bad:
        if gradients.verdict == "not_found":
            return None
        if gradients.verdict == "layer":
            gradients.text += " The forward pass, the loss and the gradients between modules were"
            gradients.text += " finite: it arose in the gradient of this layer's own parameters."
            gradients.producers = [gradients.first_backward]
            gradients.certain = True
        return gradients
    sight, index = bad[0]
    low = seen[index][0]
    cause: Literal["nan", "overflow", "unknown"] = "nan" if math.isnan(low) else "overflow"
    verdict = Verdict("layer", cause, certain=trace.left_out == 0)
    what = "NaN" if cause == "nan" else "Inf"
    maker = next((c for c in reversed(sight.used_by) if not c.recomputed), None)
    target = sight.made_by or sight.seen_in
    if maker is not None:
        verdict.producers = [to_name(maker.name)]
        verdict.first_backward = gradients.first_backward or to_name(maker.name)
        verdict.text = (
            f"The forward pass was finite. Going backward, {_named(maker)} ({maker.kind}) is the "
            f"first to give out a gradient with {what}; the gradient that came to it was finite."
        )
    elif target is not None and (outer := _taken_within(sight, target)) is not None:
        verdict.producers = [to_name(outer.name)]
        verdict.first_backward = gradients.first_backward or to_name(outer.name)
        verdict.text = (
            f"The forward pass was finite. Going backward, {what} came first from an operation in "
            f"{_named(outer)} ({outer.kind}), after {_named(target)} in the forward."
        )
    else:
        name = _named(target) if target is not None else "the model"
        verdict.verdict = "loss"
        verdict.first_backward = gradients.first_backward or (
            to_name(target.name) if target is not None else ""
        )
        verdict.text = (
            f"The forward pass and the loss were finite, but the gradient of the loss held {what} "
            f"when it came to {name}: look for a square root, norm or division at zero in the loss."
        )
    if gradients.first_backward and gradients.verdict == "layer":
        verdict.text += f" Parameters are touched first in {gradients.first_backward}."
    return verdict


def _taken_within(sight: Sight, made_by: Call) -> Call | None:
    """The module in whose forward a tensor was used; None if it left the outermost one."""
    outer = made_by.parent
    while outer is not None and sight in outer.outs:
        outer = outer.parent
    return outer
