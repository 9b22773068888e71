"""Things to try on what goes in: batches, labels, replay, regularisation."""

from __future__ import annotations

from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.remedies.settings import fact_key, flag
from nanwatch_server.domain.facts import fact_number, number
from nanwatch_server.domain.models import Suggestion

REPLAY_NAMES = ("replay_alpha", "alpha", "replay_weight")
BATCH_NAMES = ("batch_size", "per_device_train_batch_size", "train_batch_size", "bs")


def finite_batches(case: Case) -> Suggestion:
    """A batch that is bad makes a loss that is bad, however healthy the model."""
    return Suggestion(
        text="Skip batches whose inputs or labels are not finite, and log which they were. A mean "
        "over nothing is NaN too: a batch whose labels are all ignored or masked.",
        treats="cause",
        copy="if not nanwatch.guards.is_finite([x, y]) or (y == -100).all():  # ignore_index\n"
        "    continue",
    )


def finite_context(case: Case) -> Suggestion:
    """Observations come with features that another part computes."""
    return Suggestion(
        text="Check observations and context features before the policy sees or the buffer stores "
        "them; put 0 for context that is not finite, and log where it came from.",
        treats="symptom",
        copy="if not torch.isfinite(context).all():\n    context = torch.zeros_like(context)",
    )


def finite_rows(case: Case) -> Suggestion:
    """Keep what is not finite out of the buffer."""
    return Suggestion(
        text="Store only finite outputs, limited to ±10, and drop stored rows that are not: "
        "replay feeds every bad row back into later batches.",
        treats="cause",
        copy="if torch.isfinite(logits).all():\n    buffer.add(x, y, logits.clamp(-10, 10))",
    )


def replay_weight(case: Case) -> Suggestion:
    """Less weight on replay."""
    weight = fact_number(case.facts, *REPLAY_NAMES)
    if not weight:
        return Suggestion(
            text="Lower the weight of the replay loss from task to task, to half of its value.",
            treats="symptom",
            copy="alpha = alpha_at_start * (1 - 0.5 * task / max(1, tasks - 1))",
        )
    return Suggestion(
        text=f"Lower the weight of the replay loss: {number(weight)} → {number(weight / 2)}, at "
        "once or from task to task.",
        treats="symptom",
        copy=flag(fact_key(case, REPLAY_NAMES) or "alpha", weight / 2),
    )


def reset_head(case: Case) -> Suggestion:
    """The last layer carries the classes of all tasks, and what replay did to them."""
    return Suggestion(
        text="If the classifier is not finite, start it anew, forget what the optimizer knows of "
        "it and empty the buffer; the layers below may be well.",
        treats="symptom",
        copy="torch.nn.init.normal_(model.classifier.weight, 0, 0.01)\n"
        "torch.nn.init.zeros_(model.classifier.bias)\n"
        "for p in model.classifier.parameters():\n    optimizer.state.pop(p, None)",
    )


def normalise_inputs(case: Case) -> Suggestion:
    """Inputs of about unit size."""
    return Suggestion(
        text="Scale the inputs to mean 0 and standard deviation 1.",
        treats="cause",
        copy="x = (x - mean) / std",
    )


def larger_batch(case: Case) -> Suggestion:
    """Statistics of few samples are noise."""
    now = fact_number(case.facts, *BATCH_NAMES)
    grown = max(32.0, 4 * now) if now else 0.0
    sizes = f" ({number(now)} → {number(grown)})" if now else ""
    return Suggestion(
        text=f"Use larger batches{sizes}, or GroupNorm, whose statistics do not depend on the "
        "batch.",
        treats="cause",
        copy=flag(fact_key(case, BATCH_NAMES) or "batch_size", grown)
        if now
        else "torch.nn.GroupNorm(8, channels)  # instead of BatchNorm2d(channels)",
    )


def regularise(case: Case) -> Suggestion:
    """Less learning by heart."""
    return Suggestion(
        text="Keep the weights of the best evaluation (early stopping) and regularise: dropout, "
        "weight decay, augmentation, more data. If only evaluation is bad, compare train and eval "
        "mode on the same batch.",
        treats="cause",
        copy="weight_decay: 0.01",
    )


def overfit_one_batch(case: Case) -> Suggestion:
    """The quickest test of a training loop."""
    return Suggestion(
        text="Train on one batch alone: if its loss does not fall to 0, labels, loss or graph are "
        "wrong, not the data.",
        treats="cause",
        copy="x, y = next(iter(loader))\nfor _ in range(300):\n    optimizer.zero_grad()\n"
        "    loss = loss_function(model(x), y)\n    loss.backward()\n    optimizer.step()\n"
        "print(loss.item())",
    )


def detach_hooks(case: Case) -> Suggestion:
    """Side computations must not be trained through."""
    return Suggestion(
        text="Run what only observes the network (causal graphs, statistics, stored outputs) under "
        "torch.no_grad() and on detached features.",
        treats="cause",
        copy="with torch.no_grad():",
    )
