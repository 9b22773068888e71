"""Rule 6 on logits: of the output (cured by z-loss) and of attention (cured by qk-norm)."""

from __future__ import annotations

from nanwatch_server.detect.growth_rule import GrowthRule


class LogitGrowth(GrowthRule):
    """Largest output logit."""

    name = "logit_growth"
    kind = "logit_max"
    what = "Largest logit"
    calm = "Logits no longer grow"


class AttentionGrowth(GrowthRule):
    """Largest attention logit, per layer."""

    name = "attention_growth"
    kind = "attention_logit_max_layer"
    per_layer = True
    what = "Attention logit"
    calm = "Attention logits no longer grow"
