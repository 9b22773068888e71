"""Things to try on formats and on values that are not finite."""

from __future__ import annotations

from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.facts import fact
from nanwatch_server.domain.models import Suggestion


def full_precision(case: Case) -> Suggestion:
    """Leave half precision."""
    return Suggestion(
        text="Train in fp32 or bf16: fp16 ends at 65504.",
        treats="cause",
        copy="--mixed-precision 0"
        if fact(case.facts, "mixed_precision")
        else 'with torch.autocast("cuda", dtype=torch.bfloat16):',
    )


def full_loss(case: Case) -> Suggestion:
    """Keep half precision, but not for the loss."""
    return Suggestion(
        text="Compute the loss in fp32: squares, sums and exponentials of it end at 65504 in fp16.",
        treats="cause",
        copy="loss = criterion(outputs.float(), targets.float())",
    )


def keep_off_the_edge(case: Case) -> Suggestion:
    """Keep the argument of an operation where that is defined."""
    found = case.of("near_edge")
    operation = found.layer.partition(":")[0] if found is not None else "log"
    text, code = _BOUNDS.get(operation, _BOUNDS["log"])
    return Suggestion(text=text, treats="cause", copy=code)


_BOUNDS = {
    "log": (
        "Keep what goes into the logarithm above 0: log_softmax or logsigmoid instead of the "
        "logarithm of a probability, softplus before it, or a floor.",
        "torch.log(x.clamp(min=1e-6))  # or F.log_softmax(logits, dim=-1)",
    ),
    "sqrt": (
        "Add a small number under the root: at 0 its slope is infinite, below it is NaN.",
        "torch.sqrt(x.clamp(min=0) + 1e-8)",
    ),
    "power": (
        "Keep what is raised above 0: a root or a negative power has an infinite slope there.",
        "(x.clamp(min=0) + 1e-8) ** p",
    ),
    "division": (
        "Keep the divisor away from 0: a small number beside it, or a bound on what it is made of "
        "(points of the Poincaré ball within 1 - 1e-3, for one).",
        "a / (b.abs() + 1e-6)  # or b.clamp(min=1e-6), where it is not negative",
    ),
    "exp": (
        "Keep exponents small: logsumexp, softmax or log1p instead of exponentials by hand, or a "
        "bound on the exponent.",
        "torch.exp(x.clamp(max=20))  # or torch.logsumexp(x, dim=-1)",
    ),
    "acos": (
        "Keep cosines within 1: rounding alone takes them beyond it, where the angle is NaN.",
        "torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6))  # or torch.atan2(sine, cosine)",
    ),
}
_BOUNDS |= dict.fromkeys(("asin", "atanh"), _BOUNDS["acos"])
_BOUNDS["acosh"] = (
    "Keep what goes into acosh above 1: at 1 its slope is infinite, below it is NaN.",
    "torch.acosh(x.clamp(min=1 + 1e-6))",
)


def unmask(case: Case) -> Suggestion:
    """Show what is hidden."""
    return Suggestion(
        text="Take out what replaces values that are not finite (nan_to_num, penalties, "
        "`logging_nan_inf_filter`), or skip such batches and count them.",
        treats="cause",
        copy="logging_nan_inf_filter=False"
        if case.filters_nan
        else "nanwatch.guards.skip_nonfinite(optimizer)",
    )


def sanitise(case: Case) -> Suggestion:
    """What most reports try first. It gets a run through, so it is offered, for what it is."""
    if case.recurrent and not case.scans:  # states of ±10 are large, outputs may be anything
        what, limit, copy = "states", "±10", "state = nanwatch.guards.sanitize(state, 10)"
    else:
        what, limit, copy = "outputs", "±1e6", "out = nanwatch.guards.sanitize(out, 1e6)"
    return Suggestion(
        text=f"Only to get through: replace what is not finite (nan_to_num: 0 in {what}, a penalty "
        f"of 1e6 for a loss) and clamp {what} to {limit}. It hides the trouble from every chart; "
        "`sanitize` at least counts what it replaced.",
        treats="symptom",
        copy=f"{copy}\nloss = nanwatch.guards.sanitize(loss, nan=1e6)",
    )


def hold_bad_updates(case: Case) -> Suggestion:
    """Weights stay well as long as only some batches are bad."""
    return Suggestion(
        text="Hold every update whose gradients are not finite, and count them: the weights stay "
        "as they were, and so does the reason.",
        treats="symptom",
        copy="nanwatch.guards.skip_nonfinite(optimizer)",
    )
