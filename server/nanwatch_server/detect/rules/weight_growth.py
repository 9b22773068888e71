"""Rule 6 on weights and buffers: norms that run away, running statistics that drift."""

from __future__ import annotations

from nanwatch_server.detect.growth_rule import GrowthRule


class WeightGrowth(GrowthRule):
    """Norm of all parameters."""

    name = "weight_growth"
    kind = "param_norm"
    what = "Parameter norm"
    calm = "Parameter norm no longer grows"


class BufferDrift(GrowthRule):
    """Largest absolute value of each buffer, above all running statistics of BatchNorm."""

    name = "buffer_drift"
    kind = "buffer_abs_max_layer"
    per_layer = True
    what = "Buffer"
    calm = "Buffers no longer grow"
