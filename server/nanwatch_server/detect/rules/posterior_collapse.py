"""Variational autoencoders: the posterior has become the prior, so the latent code says nothing."""

from __future__ import annotations

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import fact, number, short
from nanwatch_server.domain.models import Evidence

LATENT = ("latent", "latent_dim", "latent_size", "latents", "z_dim", "z_size", "kl_weight")
"""Names in a configuration that tell of a latent code: a KL may also be one that is minimised."""


class PosteriorCollapse(TickRule):
    """KL divergence from the prior against its largest."""

    name = "posterior_collapse"
    reads = ("kl",)
    keep = 32
    needs = 32
    calm = "The latent code is used again"
    OWN = ("most", "since")

    def begin(self) -> None:
        self.most = 0.0
        self.since = -1

    def judge(self) -> Verdict:
        limits = self.limits
        recent = self.last(32)
        self.most = max(self.most, float(recent.max()))
        if self.context.learns_policy() or fact(self.context.facts, *LATENT) is None:
            return QUIET
        level = middle(recent)
        if not 0 <= level <= min(limits["share"] * self.most, limits["least"]):
            self.since = -1
            return QUIET
        self.since = int(self.steps(32)[0]) if self.since < 0 else self.since
        if self.count < limits["records"] or self.progress.falling(self.step):
            return Verdict(KEEP)
        return Verdict(2, self.since, self._say(level))

    def _say(self, level: float) -> Said:
        return Said(
            title=f"Posterior collapse: the KL divergence is {short(level)}",
            message=(
                f"Median KL divergence from the prior over 32 records is {number(level)} at step "
                f"{self.step}; it was {number(self.most)} at most. The latent code carries "
                "nothing, and the decoder draws the same whatever it is."
            ),
            evidence=(
                Evidence(
                    label="KL from the prior",
                    value=number(level),
                    limit=number(min(self.limits["share"] * self.most, self.limits["least"])),
                    kind="kl",
                    scope=self.scope,
                ),
            ),
            kind="kl",
        )
