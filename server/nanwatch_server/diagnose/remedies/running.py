"""What to do with the run itself: the dials a button can turn, ways back, ways to look."""

from __future__ import annotations

from nanwatch_server.diagnose.case import FROM_START, LR_NAMES, Case
from nanwatch_server.diagnose.remedies.settings import fact_key, flag
from nanwatch_server.domain.facts import fact_number, number
from nanwatch_server.domain.models import Suggestion

_RESUME = (
    'state = torch.load("last_good.pt")\n'
    'model.load_state_dict(state["model"])\n'
    'optimizer.load_state_dict(state["optimizer"])\n'
    'for group in optimizer.param_groups:\n    group["lr"] *= 0.5'
)


def scale_lr(case: Case, factor: float = 0.1) -> Suggestion:
    """Lower the learning rate now."""
    lr = fact_number(case.facts, *LR_NAMES)
    change = f" ({number(lr)} → {number(lr * factor)})" if lr else ""
    return Suggestion(
        text=f"Lower the learning rate to {number(factor)} of its schedule{change}. "
        "Slows the growth; what drives it stays.",
        treats="symptom",
        command="scale_lr",
        args={"factor": factor},
    )


def checkpoint(case: Case) -> Suggestion:
    """Keep what there is."""
    return Suggestion(
        text=f"Save a checkpoint now. To go back, prefer one from before step {case.onset}."
        if case.onset > FROM_START
        else "Save a checkpoint now, to look into it: the trouble began with the run, so no "
        "earlier one is better.",
        treats="symptom",
        command="checkpoint",
    )


def keep_what_is_trained(case: Case) -> Suggestion:
    """The weights may be well where only their evaluation is not."""
    return Suggestion(
        text="Save a checkpoint of the weights in training now, and evaluate that: they may be "
        "well, and the best checkpoint by this evaluation is none.",
        treats="symptom",
        command="checkpoint",
    )


def stop(case: Case) -> Suggestion:
    """Stop, with a checkpoint."""
    return Suggestion(
        text=f"Stop the run and go back to a checkpoint from before step {case.onset}."
        if case.onset > FROM_START
        else "Stop the run and begin anew: the trouble began with it.",
        treats="symptom",
        command="stop",
        args={"checkpoint": True},
    )


def stop_choosing(case: Case) -> Suggestion:
    """What is chosen by an evaluation of something else is chosen by chance."""
    return Suggestion(
        text="Stop the run if it ends early or picks its best checkpoint by this evaluation.",
        treats="symptom",
        command="stop",
        args={"checkpoint": True},
    )


def roll_back(case: Case) -> Suggestion:
    """Before it began, with smaller steps."""
    before = case.onset - 100
    return Suggestion(
        text=f"Go back to a checkpoint from before step {before} and go on with half the learning "
        "rate."
        if before > FROM_START
        else "Begin anew with half the learning rate: there is no checkpoint from long before.",
        treats="symptom",
        copy=_RESUME if before > FROM_START else _halved(case),
    )


def _halved(case: Case) -> str:
    """The learning rate as a setting, where a run begins anew."""
    lr = fact_number(case.facts, *LR_NAMES)
    key = fact_key(case, LR_NAMES) or "lr"
    halved = 'for group in optimizer.param_groups:\n    group["lr"] *= 0.5'
    return flag(key, lr / 2) if lr else halved


def skip_batches(case: Case) -> Suggestion:
    """The PaLM recipe."""
    return Suggestion(
        text=f"Go back to a checkpoint about 100 steps before {case.onset} and skip 200 to 500 "
        "batches; the same batches from another state rarely spike again.",
        treats="cause",
        copy="for _ in range(300):\n    next(batches)  # after the checkpoint is loaded",
    )


def find_operation(case: Case) -> Suggestion:
    """Find the operation that made it."""
    return Suggestion(
        text="Trace the next 50 attempts: it names the layer that comes first. Anomaly mode names "
        "the operation. Look for log or division of 0, square roots at 0 and bad input rows.",
        treats="cause",
        command="arm_tracing",
        args={"steps": 50},
        copy="torch.autograd.set_detect_anomaly(True)",
    )


def find_the_block(case: Case) -> Suggestion:
    """Where the process stands."""
    return Suggestion(
        text="Ask the process where it stands: workers of the data loader, a lock, or a collective "
        "that waits for a rank that is gone.",
        treats="cause",
        copy="py-spy dump --pid PID",
    )
