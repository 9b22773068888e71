"""What a series measures. Detectors bind to the kind, never to a series' name."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of series."""

    unit: str
    """Unit shown on an axis; empty for a plain number."""
    log_axis: bool
    """True where people read the series on a logarithmic axis."""
    per_layer: bool
    """True if the series' `layer` names a layer, parameter or task."""
    meaning: str


KINDS: dict[str, Kind] = {
    "loss": Kind("", True, False, "loss of the attempt: mean of the roots of backward, unscaled"),
    "grad_norm": Kind("", True, False, "L2 norm of all gradients before clipping"),
    "grad_norm_layer": Kind("", True, True, "L2 norm of one layer's gradients before clipping"),
    "grad_norm_clipped": Kind("", True, False, "L2 norm of all gradients after clipping"),
    "grad_norm_shard": Kind(
        "", True, False, "this rank's part of grad_norm: squares add up over ranks"
    ),
    "grad_norm_shard_layer": Kind("", True, True, "this rank's part of grad_norm_layer"),
    "grad_kept": Kind(
        "", True, False, "largest |gradient| of the attempt before that nothing set to zero"
    ),
    "clip_threshold": Kind("", True, False, "max_norm given to the clipping call"),
    "update_applied": Kind("", False, False, "1 if the attempt changed the weights, else 0"),
    "skip_reason": Kind(
        "", False, False, "0 applied, 1 skipped by the scaler, 2 by the script, 3 held by a guard"
    ),
    "update_ratio_layer": Kind("", True, True, "norm of the update over norm of the weights"),
    "update_norm": Kind("", True, False, "L2 norm of the change of all parameters in one step"),
    "update_norm_layer": Kind("", True, True, "L2 norm of the change of one layer in one step"),
    "adam_rms": Kind("", True, False, "root mean square of gradient over sqrt(second moment)"),
    "adam_rms_layer": Kind("", True, True, "the same for one layer"),
    "moment_norm": Kind("", True, True, "L2 norm of one kind of optimizer state"),
    "buffer_abs_max_layer": Kind("", True, True, "largest absolute value of one buffer"),
    "param_norm": Kind("", True, False, "L2 norm of all parameters"),
    "param_norm_layer": Kind("", True, True, "L2 norm of one layer's parameters"),
    "lr": Kind("", True, False, "learning rate the optimizer used in this step"),
    "lr_scheduled": Kind("", True, False, "learning rate asked by script or scheduler"),
    "lr_factor": Kind("", True, False, "factor put on the schedule by a command"),
    "q_mean": Kind("", False, False, "mean of the critic's output over the batch"),
    "q_std": Kind("", False, False, "standard deviation of the critic's output"),
    "q_min": Kind("", False, False, "smallest value of the critic's output"),
    "q_max": Kind("", False, False, "largest value of the critic's output"),
    "q_target_mean": Kind("", False, False, "mean of the target critic's output"),
    "q_target_gap": Kind("", False, False, "mean of the critic minus mean of its target"),
    "reward": Kind("", False, False, "mean reward"),
    "reward_abs_max": Kind("", True, False, "largest absolute reward of what was logged"),
    "entropy": Kind("nat", False, False, "entropy of the policy"),
    "kl": Kind("nat", True, False, "Kullback-Leibler divergence"),
    "explained_variance": Kind("", False, False, "share of the return's variance explained"),
    "logit_max": Kind("", True, False, "largest absolute logit"),
    "attention_logit_max_layer": Kind("", True, True, "largest absolute attention logit"),
    "domain_margin": Kind(
        "", True, True, "least distance of an operation's argument from where it is not defined"
    ),
    "loss_scale": Kind("", True, False, "loss scale of the gradient scaler"),
    "nonfinite": Kind("", False, True, "number of non-finite values met"),
    "step_time": Kind("s", True, False, "time between two attempts"),
    "data_time": Kind("s", True, False, "time spent waiting for data"),
    "throughput": Kind("1/s", False, False, "attempts a second"),
    "memory": Kind("MiB", False, False, "resident memory of the process"),
    "gpu_memory": Kind("MiB", False, False, "memory held by tensors on the accelerator"),
    "gpu_utilization": Kind("%", False, False, "share of time the accelerator was busy"),
    "gpu_temperature": Kind("°C", False, False, "temperature of the accelerator"),
    "sdk_overhead": Kind("", False, False, "share of the step time spent inside nanwatch"),
    "dead_fraction_layer": Kind("", False, True, "share of units that are always zero"),
    "saturated_fraction_layer": Kind("", False, True, "share of units at the end of their range"),
    "unreached_fraction_layer": Kind(
        "", False, True, "share of weights whose gradient is exactly 0"
    ),
    "repaired": Kind("", False, True, "numbers a guard changed in this attempt; layer = guard"),
    "task": Kind("", False, False, "number of the current task or fold"),
    "custom": Kind("", False, False, "anything else; `layer` carries the name"),
}

MOMENTS = ("mean", "std", "min", "max")
"""What is kept of a logged tensor, in this order."""
