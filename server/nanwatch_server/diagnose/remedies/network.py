"""Things to try on the model: how it starts, what normalises it, what carries its gradients."""

from __future__ import annotations

from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.models import Suggestion

_ORTHOGONAL = (
    'for n, p in model.named_parameters():\n    if "weight_hh" in n:\n'
    "        for gate in p.data.split(p.shape[1]):\n"
    "            torch.nn.init.orthogonal_(gate)"
)
_BELOW_ZERO = "A = -torch.exp(A_log.float())\ndt = F.softplus(dt_raw).clamp(1e-3, 0.1)"


def steady_state(case: Case) -> Suggestion:
    """Start what is applied once a time step where it neither grows nor shrinks a signal. A scan of
    a state space has no matrix to make orthogonal: there it is the size of A and of its step."""
    if case.scans:
        text = (
            "Keep the state from growing: train A_log with A = -exp(A_log), so that no factor of "
            "the scan exceeds 1, limit its step dt to 0.1, and scan in fp32."
        )
        return Suggestion(text=text, treats="cause", copy=_BELOW_ZERO)
    if case.cells:
        text = "Start the recurrent weights orthogonal, so that repeated steps do not amplify."
        return Suggestion(text=text, treats="cause", copy=_ORTHOGONAL)
    return Suggestion(
        text="Start what carries the state so that repeated steps do not amplify: orthogonal "
        "recurrent weights; in a state-space model instead A = -exp(A_log), which no factor above "
        "1 can come from.",
        treats="cause",
        copy=f"{_ORTHOGONAL}\n# state-space model:\n{_BELOW_ZERO}",
    )


def start_layers(case: Case) -> Suggestion:
    """The layers around what recurs, or all of a feed-forward net."""
    which = "the other layers" if case.recurrent else "the layers"
    return Suggestion(
        text=f"Start {which} with Xavier weights (orthogonal ones do as well; He for ReLU) and "
        "biases at 0.",
        treats="cause",
        copy="for m in model.modules():\n    if isinstance(m, torch.nn.Linear):\n"
        "        torch.nn.init.xavier_normal_(m.weight)\n"
        "        if m.bias is not None:\n            torch.nn.init.zeros_(m.bias)",
    )


def replace_recurrence(case: Case) -> Suggestion:
    """The last resort of those whose recurrent net stays unstable."""
    half = f" ({case.length} → {case.length // 2})" if case.length > 1 else ""
    cell = "" if case.scans else "an LSTM instead of a plain RNN, or "
    return Suggestion(
        text=f"If it stays unstable, replace the recurrence: {cell}"
        "causal convolutions (TCN) or a transformer, whose gradients are not multiplied once a "
        f"time step. Shorter sequences{half} help for the same reason.",
        treats="cause",
        copy="torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer("
        "128, 4, batch_first=True, norm_first=True), num_layers=2, enable_nested_tensor=False)",
    )


def normalise_layers(case: Case) -> Suggestion:
    """Keep the size of activations."""
    where = "on what leaves each step" if case.recurrent else "between the layers"
    kinds = "LayerNorm" if case.recurrent else "LayerNorm or BatchNorm"
    return Suggestion(
        text=f"Put {kinds} {where}.",
        treats="cause",
        copy="self.norm = torch.nn.LayerNorm(width)  # in __init__\n"
        "h = self.norm(h)  # in forward, after each layer",
    )


def better_start(case: Case) -> Suggestion:
    """Initial weights that keep the size of a signal."""
    return Suggestion(
        text="Use ReLU or GELU with He initialisation, or Xavier for tanh and sigmoid.",
        treats="cause",
        copy="torch.nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')",
    )


def leaky(case: Case) -> Suggestion:
    """Units that can come back."""
    return Suggestion(
        text="Use LeakyReLU or GELU, whose units can come back, and start biases at 0; in "
        "reinforcement learning reset dormant units (ReDo).",
        treats="cause",
        copy="torch.nn.LeakyReLU(0.01)  # instead of torch.nn.ReLU()",
    )


def residual(case: Case) -> Suggestion:
    """A path for the gradient."""
    return Suggestion(
        text="Add residual connections, so that the gradient has a path that shrinks nothing.",
        treats="cause",
        copy="x = x + block(norm(x))  # instead of x = block(x)",
    )


def straight_through(case: Case) -> Suggestion:
    """A way for the gradient past an operation that has none."""
    return Suggestion(
        text="Let the gradient pass the operation that has none: straight through a rounding, or "
        "a relaxation (softmax, Gumbel) instead of a choice.",
        treats="cause",
        copy="rounded = w + (torch.round(w) - w).detach()",
    )


def keep_updates(case: Case) -> Suggestion:
    """What is written over the weights takes the steps back."""
    return Suggestion(
        text="Find what writes to the weights between two steps: a target network copied the wrong "
        "way round, averaged weights that are not taken out again, a state that is loaded each "
        "epoch, a grid the weights are rounded to (keep full-precision ones and round a copy).",
        treats="cause",
        copy="target.load_state_dict(online.state_dict())  # not the other way round",
    )


def check_graph(case: Case) -> Suggestion:
    """Loss and optimizer speak of different weights."""
    return Suggestion(
        text="Check that the optimizer holds the parameters of the model that makes the loss, that "
        "they require gradients, and that nothing between them is detached.",
        treats="cause",
        copy="held = {id(p) for g in optimizer.param_groups for p in g['params']}\n"
        "print([n for n, p in model.named_parameters() if id(p) not in held or p.grad is None])",
    )


def qk_norm(case: Case) -> Suggestion:
    """Hold the attention logits."""
    return Suggestion(
        text="Normalise queries and keys before their product (qk-norm).",
        treats="cause",
        copy="q = F.layer_norm(q, q.shape[-1:])\nk = F.layer_norm(k, k.shape[-1:])",
    )


def z_loss(case: Case) -> Suggestion:
    """Hold the logits."""
    return Suggestion(
        text="Add a z-loss of 1e-4, which holds the logits near 0.",
        treats="cause",
        copy="loss = loss + 1e-4 * logits.logsumexp(-1).square().mean()",
    )


def train_mode(case: Case) -> Suggestion:
    """Evaluation mode that nobody left."""
    return Suggestion(
        text="Call model.train() before each epoch and after every evaluation; a model that was "
        "loaded or checked with model.eval() stays in evaluation mode until then.",
        treats="cause",
        copy="model.train()",
    )


def freeze_batchnorm(case: Case) -> Suggestion:
    """Statistics of the first task for all."""
    return Suggestion(
        text="Freeze the running statistics of BatchNorm, after the first task at the latest.",
        treats="cause",
        copy="nanwatch.guards.freeze_batchnorm(model)",
    )


def smaller_beta(case: Case) -> Suggestion:
    """A KL term that weighs less at first."""
    name = next((key for key in ("kl_weight", "beta", "kl_beta") if key in case.facts), "beta")
    return Suggestion(
        text="Weigh the KL term less: sum the reconstruction over its dimensions as the KL is, "
        "warm its weight up from 0 over the first thousand steps, or allow some free bits.",
        treats="cause",
        copy=f"{name}: 0.01",
    )


def evaluate_what_is_trained(case: Case) -> Suggestion:
    """The model of the evaluation is another one, or none is run."""
    return Suggestion(
        text="Evaluate the very model that the optimizer holds: not a copy made before training, "
        "an average that is never updated, a compiled or exported one of old, or a cached result.",
        treats="cause",
        copy="held = {id(p) for g in optimizer.param_groups for p in g['params']}\n"
        "print([n for n, p in evaluated.named_parameters() if id(p) not in held])",
    )
