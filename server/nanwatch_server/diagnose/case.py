"""A group of findings seen as one case: what fired, how far, with which facts. For `syndromes`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact, fact_number, filters_nan, is_on, plain
from nanwatch_server.domain.models import Evidence, Finding, Severity

LENGTH_NAMES = ("T", "timesteps", "seq_len", "sequence_length", "seq_length", "rollout_steps",
                "rollout_length", "unroll", "horizon")  # fmt: skip
WINDOW_NAMES = ("bptt_window", "bptt", "tbptt", "tbptt_steps", "truncated_bptt_steps", "bptt_len")
CLIP_NAMES = ("clip_grad", "max_grad_norm", "max_gradient_norm", "gradient_clip_val",
              "gradient_clip", "gradient_clipping", "grad_clip", "grad_clip_norm", "clip_gradient",
              "clip_gradients", "clip_grad_norm", "clip_grad_norm_", "clip_norm", "max_norm",
              "clip")  # fmt: skip
"""Names of a limit on the gradient norm; the last is as often one of something else."""
RATIO_NAMES = ("clip_range", "clip_coef", "clip_ratio", "gae_lambda", "ppo_epochs", "kl_coef")
"""Settings of trainings whose `clip` limits a ratio of probabilities, as PPO's does."""
SDK = "nanwatch"
"""The fact (a version) that our own SDK sends; imported logs have none."""
TRAINER_NAMES = ("is_world_process_zero", "is_hyper_param_search")
"""What only transformers' `trainer_state.json` says."""
TRAINER_CLIP = 1.0
"""`TrainingArguments.max_grad_norm` where nobody set it; `trainer_state.json` does not tell it."""
LR_NAMES = ("lr", "learning_rate", "max_lr", "peak_lr", "base_lr")
LR_MOST = {"adam": 0.01, "adamw": 0.01, "lion": 0.003, "rmsprop": 0.05, "sgd": 1.0}
"""UMLAUT (CHI'21) allows 1e-7 to 0.01, which fits Adam; SGD with momentum trains at up to 1."""
ADVERSARY_NAMES = ("d_lr", "g_lr", "lr_d", "lr_g", "n_critic", "gp_weight", "reversal",
                   "grad_reversal", "grl", "grl_weight")  # fmt: skip
"""Settings that only a game of two has."""
REHEARSALS = ("rehearsed", "rehearsal", "rehearsal_size", "exemplars")
HALVES = frozenset({"float16", "fp16", "half", "16-mixed"})
"""What such a setting says where half precision is in use."""
AGENT_NAMES = ("env", "env_id", "env_name", "tau", "reward_scale", "discount", "epsilon")
BUFFERS = ("buffer", "buffer_size", "replay_size", "memory_size", "memory", "learning_starts")
"""Settings of a replay buffer, ..."""
OFF_POLICY = (*BUFFERS, "eps_start", "epsilon_start", "eps_end", "target_update", "tau")
"""... and others that only value learning from stored transitions has."""
SUDDEN = 4
"""Records between onset and finding of what came without growth."""
FROM_START = 10
"""Steps: trouble that began within them leaves nothing to go back to."""
REWARD_LARGE = 100.0
BLOWN = 1e4
"""Times the rewards at the beginning (or 1) that no agent can earn by getting better."""
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?")
_CRITIC = re.compile(r"critic|(?<![a-z])(q|qf|vf|value)[0-9]*(?![a-z])")
_ADVERSARY = re.compile(r"generator|discriminator|(?<![a-z])(netg|netd|gen|disc)(?![a-z])")
_FORMAT = re.compile(r"dtype|precision|(^|[._])wire")
"""Settings that name a number format."""
_TIME = re.compile(r"lstm|mamba|recurrent|(?<![a-z0-9])(gru|rnn|ssm|s4|hh)(?![a-z])")
"""Names of modules that carry a state through time; short ones only as whole words."""
_CELL = re.compile(r"lstm|(?<![a-z0-9])(gru|rnn|hh)(?![a-z])")
"""Of those the ones with a matrix from hidden state to hidden state."""
_SCAN = re.compile(r"mamba|a_log|dt_proj|(?<![a-z0-9])(ssm|s[456]d?)(?![a-z0-9])")
"""And the ones that scan a state space."""


def parse(text: str) -> float:
    """The number evidence shows; NaN if it shows none."""
    try:
        return float(text.split()[0].rstrip("x%"))
    except (ValueError, IndexError):
        return math.nan


@dataclass(frozen=True)
class Case:
    """Findings of one trouble, oldest first, and the run's facts."""

    findings: Sequence[Finding]
    facts: Mapping[str, str]

    def _told(self, rule: str, at_least: Severity) -> list[Finding]:
        return [
            f for f in self.findings if f.rule == rule and f.severity >= at_least and not f.cleared
        ]

    def of(self, rule: str, at_least: Severity = Severity.WARNING) -> Finding | None:
        """The worst, then newest, finding of a rule."""
        return max(self._told(rule, at_least), key=lambda f: (f.severity, f.step), default=None)

    def first(self, rule: str, at_least: Severity = Severity.WARNING) -> Finding | None:
        """The first finding of a rule that is so severe, whatever reminders followed."""
        return min(self._told(rule, at_least), key=lambda f: f.step, default=None)

    def has(self, rule: str, at_least: Severity = Severity.WARNING) -> bool:
        """True if the rule fired at least that severely."""
        return self.of(rule, at_least) is not None

    @property
    def first_nonfinite(self) -> Finding | None:
        """Where NaN and infinities began. Within one attempt the loss comes before its gradient,
        that before the weights, whichever was heard of first. What a scaler skipped long before is
        no beginning."""
        bad = [f for f in self.findings if f.rule == "nonfinite" and not f.cleared]
        told = min((f.onset_step for f in bad if f.severity >= Severity.WARNING), default=0)
        bad = [f for f in bad if f.onset_step >= told - SUDDEN]
        place = {"grad_norm": 1, "param_norm": 2}
        return min(bad, key=lambda f: (f.onset_step, place.get(f.kind, 0), f.step), default=None)

    @property
    def onset(self) -> int:
        """First step at which any of it shows."""
        return min(f.onset_step for f in self.findings)

    def evidence(self, kind: str, label: str = "") -> Evidence | None:
        """The newest evidence of a kind (and label)."""
        for found in reversed(self.findings):
            for item in found.evidence:
                if item.kind == kind and (not label or item.label == label):
                    return item
        return None

    @property
    def reward(self) -> float:
        """Largest absolute reward seen; NaN if none was."""
        item = self.evidence("reward", "Largest |reward|")
        return parse(item.value) if item else math.nan

    @property
    def large_rewards(self) -> bool:
        """Rewards of a size that asks for scaling."""
        return self.reward > REWARD_LARGE and not self.blown_rewards

    @property
    def blown_rewards(self) -> bool:
        """Rewards that were small when the trouble was first told of and beyond all measure later:
        what makes them has broken, as a simulator does."""
        label = "Largest |reward|"
        items = [
            e for f in self.findings for e in f.evidence if (e.kind, e.label) == ("reward", label)
        ]
        seen = [parse(item.value) for item in items]
        return bool(seen) and seen[0] <= REWARD_LARGE and seen[-1] >= BLOWN * max(seen[0], 1.0)

    @property
    def values(self) -> bool:
        """Reinforcement learning with value functions."""
        if fact_number(self.facts, "gamma", "discount") is not None:
            return True
        # a log without a configuration: rewards, and a loss that is called after a critic
        named = self.reward > 0 and any(_CRITIC.search(f.scope.lower()) for f in self.findings)
        return named or any(f.rule == "q_growth" for f in self.findings)

    @property
    def off_policy(self) -> bool:
        """Values are learnt from a memory of what happened, by settings that only this has."""
        return self.values and fact(self.facts, *OFF_POLICY) is not None

    @property
    def clip(self) -> float:
        """Clip in use, from the data or else the configuration; NaN for none."""
        return self._clip[0]

    @property
    def clip_source(self) -> str:
        """Who says so: `data`, `configuration`, `default` of a trainer; empty for none."""
        return self._clip[1]

    @property
    def unclipped(self) -> bool:
        """No clip, and somebody would know: the configuration says none, or our own SDK, which
        sees every call that clips, saw none. A log alone may leave it out."""
        if math.isfinite(self.clip):
            return False
        return SDK in self.facts or self.speaks_of_clips

    @property
    def speaks_of_clips(self) -> bool:
        """The configuration has a setting for a clip, whatever it is set to."""
        return not {plain(key) for key in self.facts}.isdisjoint(self.clip_names)

    @property
    def clip_unseen(self) -> bool:
        """Gradient norms came from our own SDK, and a clip did not."""
        item = self.evidence("grad_norm", "Gradient norm")
        return SDK in self.facts and item is not None and item.limit == "no clip"

    @property
    def clip_names(self) -> tuple[str, ...]:
        """Settings that limit the gradient norm in a training of this kind."""
        other = self.values or self.adversarial or fact(self.facts, *RATIO_NAMES) is not None
        return CLIP_NAMES[:-1] if other else CLIP_NAMES

    @property
    def _clip(self) -> tuple[float, str]:
        for found in reversed(self.findings):
            for item in found.evidence:
                # "no clip" says only that none was sent: logs rarely hold one
                if item.label == "Norm before clipping, median":
                    return parse(item.limit), "data"
                if item.label == "Gradient norm" and item.limit.startswith("clip "):
                    return parse(item.limit[5:]), "data"
        value = fact_number(self.facts, *self.clip_names)
        if value is not None:
            return (value, "configuration") if value > 0 else (math.nan, "")
        if any(fact(self.facts, name) is not None for name in TRAINER_NAMES):
            return TRAINER_CLIP, "default"
        return math.nan, ""

    @property
    def recurrent(self) -> bool:
        """A recurrent module, a state-space scan or a loop carries gradients through time."""
        return self.gated or self.unrolled > 0

    @property
    def gated(self) -> bool:
        """A recurrent module is there, whose state is bounded; a loop by hand has any."""
        return is_on(self.facts, "recurrent") or self._named(_TIME)

    @property
    def scans(self) -> bool:
        """A state-space model, by its names: it has no matrix from state to state."""
        return self._named(_SCAN) and not self._named(_CELL)

    @property
    def cells(self) -> bool:
        """A recurrent net with such a matrix, by its names."""
        return self._named(_CELL)

    def _named(self, pattern: re.Pattern[str]) -> bool:
        """A layer in the evidence or the model of the configuration is named so."""
        names = [item.layer.lower() for f in self.findings for item in (f, *f.evidence)]
        names.append((fact(self.facts, "model", "arch", "layers") or "").lower())
        return any(pattern.search(name) for name in names)

    @property
    def length(self) -> int:
        """Steps gradients flow back through time, as configured, else as measured; 0 if unknown."""
        return int(fact_number(self.facts, *LENGTH_NAMES) or self.unrolled)

    @property
    def unrolled(self) -> int:
        """How often the same weights were seen in a row within one pass by the SDK; 0 if not."""
        return int(fact_number(self.facts, "unrolled") or 0)

    @property
    def untruncated(self) -> bool:
        """Long sequences without truncation of back-propagation through time."""
        window = fact_number(self.facts, *WINDOW_NAMES) or 0
        return self.length > 32 and not 0 < window < self.length

    @property
    def replay(self) -> bool:
        """Replay of stored outputs, outside reinforcement learning."""
        names = ("replay_alpha", "replay_beta", "replay", "replay_weight", "replay_size")
        memory = fact(self.facts, "buffer_size", "buffer", "memory_size", "mem_size", "memory")
        mixed = fact(self.facts, "alpha", "beta", "tasks", "n_tasks", "num_tasks", "task")
        stored = fact(self.facts, *names) is not None or is_on(self.facts, *REHEARSALS)
        stored = stored or (memory is not None and mixed is not None)
        # off-policy reinforcement learning has a buffer too, but stores what happened
        return stored and not self.values and fact(self.facts, *AGENT_NAMES) is None

    @property
    def empty_memory(self) -> bool:
        """A replay buffer of states that give the first weights of a critic no gradient."""
        remembers = self.values and fact(self.facts, *BUFFERS) is not None
        return remembers and self.unreached_from_start

    @property
    def unreached_from_start(self) -> bool:
        """Weights that never had a gradient: an operation or inputs without one are the reason, not
        units that died, behind which weights had one at first."""
        found = self.of("unreached")
        return found is not None and found.onset_step <= FROM_START and not self.has("dead_units")

    @property
    def unbounded(self) -> bool:
        """The loss grows below 0: nothing bounds what is optimised."""
        found = self.of("loss_growth")
        grows = found is not None and any(item.value.startswith("-") for item in found.evidence)
        return grows or self.evidence("loss", labels.FALLS_WITHOUT_END) is not None

    @property
    def critics(self) -> bool:
        """Trouble in the optimizer of a value function."""
        return self.values and any(_CRITIC.search(f.scope.lower()) for f in self.findings)

    @property
    def adversarial(self) -> bool:
        """A generator and a discriminator that play against each other."""
        named = any(_ADVERSARY.search(f.scope.lower()) for f in self.findings)
        return named or is_on(self.facts, *ADVERSARY_NAMES)

    @property
    def half_precision(self) -> bool:
        """Half precision with its range of 65504, by the configuration or of the weights."""
        switches = ("mixed_precision", "amp", "fp16", "use_amp")
        if fact(self.facts, *switches) is not None:
            return is_on(self.facts, *switches)
        return any(
            value.lower().removeprefix("torch.") in HALVES
            for key, value in self.facts.items()
            if _FORMAT.search(key.lower())
        )

    @property
    def thrown(self) -> bool:
        """An update moved the weights further than all before."""
        return self.evidence("param_norm_layer", labels.WEIGHTS_LEAPT) is not None

    @property
    def swollen(self) -> bool:
        """Weights many times as large as they began."""
        return self.evidence("param_norm_layer", labels.WEIGHTS_GREW) is not None

    @property
    def rate_rise(self) -> str:
        """`1e-05 → 0.003` if the learning rate rose shortly before; else empty."""
        item = self.evidence("lr", labels.RATE_ROSE)
        return item.value if item else ""

    @property
    def optimizer(self) -> str:
        """Its name in small letters; empty if unknown."""
        return (fact(self.facts, "optimizer", "optim", "opt") or "").lower()

    @property
    def blind_quasi_newton(self) -> bool:
        """L-BFGS without a line search, which is how torch makes it: each step is as long as its
        picture of the curvature says, right or wrong."""
        searched = fact(self.facts, "line_search_fn", "line_search") is not None
        return self.optimizer.replace("-", "").startswith("lbfgs") and not searched

    @property
    def swapped_betas(self) -> str:
        """`(0.999, 0.9)` where Adam's momentum outlives its second moment; else empty. It should be
        beta1 < sqrt(beta2): Kingma and Ba (2015), condition of theorem 4.1."""
        betas = _NUMBER.findall(fact(self.facts, "betas", "adam_betas") or "")
        if len(betas) != 2 or not (self.optimizer or "adam").startswith(("adam", "nadam", "radam")):
            return ""  # Adan has three
        first, second = map(float, betas)
        swapped = 0 < second < 1 and first >= second**0.5
        return f"({betas[0]}, {betas[1]})" if swapped else ""

    @property
    def rate_most(self) -> float:
        """Above this learning rate the optimizer is rarely stable; infinite if it is unknown."""
        known = (most for name, most in LR_MOST.items() if self.optimizer.startswith(name))
        return next(known, math.inf)

    @property
    def rate_large(self) -> float:
        """The configured learning rate where the optimizer is rarely stable at it; else 0."""
        rate = fact_number(self.facts, *LR_NAMES)
        return rate if rate is not None and rate > self.rate_most else 0.0

    @property
    def filters_nan(self) -> bool:
        """A trainer that logs another loss instead of a NaN."""
        return filters_nan(self.facts)
