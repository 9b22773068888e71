"""Which kind a column of somebody's log is, from its name, and what a person said of it.

Pure. Names that say nothing known are kept as `custom`: no rule reads them. The table of plain
names is shared with the integrations (`nanwatch.contract.names`); here is what only files need.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from nanwatch.contract.kinds import KINDS
from nanwatch.contract.limits import to_name
from nanwatch.contract.lines import series_key
from nanwatch.contract.names import KIND_OF, STAGES, known_kind, parts_of, take_stage
from nanwatch_server.importers.words import OWNER, part_of_loss, read_words

EXACT, USUAL, GUESSED, WEAK = range(4)
"""How sure a guess is; of two names for one series the surer one gets it."""

_OWN_UNITS = frozenset(
    {"memory", "gpu_memory", "gpu_utilization", "gpu_temperature", "throughput", "nonfinite"}
    | {"step_time", "data_time", "sdk_overhead", "custom"}
)
"""Kinds whose name others use with other units."""

_MORE = {
    "train_loss": "loss",
    "training_loss": "loss",
    "mean_loss": "loss",
    "avg_loss": "loss",
    "loss_mean": "loss",
    "batch_loss": "loss",
    "lm_loss": "loss",
    "nll_loss": "loss",
    "ce_loss": "loss",
    "cross_entropy": "loss",
    "cross_entropy_loss": "loss",
    "mse_loss": "loss",
    "gnorm": "grad_norm",
    "gradnorm": "grad_norm",
    "learningrate": "lr",
    "grad_norm_total": "grad_norm",
    "global_grad_norm": "grad_norm",
    "global_gradient_norm": "grad_norm",
    "total_norm": "grad_norm",
    "grad_norm_pre_clip": "grad_norm",
    "grad_norm_before_clip": "grad_norm",
    "grad_norm_unclipped": "grad_norm",
    "grad_norm_post_clip": "grad_norm_clipped",
    "grad_norm_after_clip": "grad_norm_clipped",
    "clipped_grad_norm": "grad_norm_clipped",
    "max_grad_norm": "clip_threshold",
    "clip_norm": "clip_threshold",
    "grad_clip": "clip_threshold",
    "weight_norm": "param_norm",
    "params_norm": "param_norm",
    "grad_scale": "loss_scale",
    "amp_scale": "loss_scale",
    "return": "reward",
    "returns": "reward",
    "eprewmean": "reward",
    "ep_return_mean": "reward",
    "average_return": "reward",
    "average_reward": "reward",
    "episode_reward_mean": "reward",
    "episode_return_mean": "reward",
    "mean_q": "q_mean",
    "avg_q": "q_mean",
    "max_q": "q_max",
    "min_q": "q_min",
    "target_q": "q_target_mean",
    "q_target": "q_target_mean",
    "target_q_mean": "q_target_mean",
    "approxkl": "kl",
    "max_logit": "logit_max",
    "logits_max": "logit_max",
    "max_logits": "logit_max",
}
_PLAIN = {
    **{name: name for name, kind in KINDS.items() if not kind.per_layer and name not in _OWN_UNITS},
    **_MORE,
    **KIND_OF,
}
_NEGATED = {"train/entropy_loss": "entropy"}
"""Columns that hold minus a kind: Stable-Baselines3 logs minus the mean entropy of its policies."""

_GROUPS = {
    "gradients": "grad_norm",
    "gradient": "grad_norm",
    "grads": "grad_norm",
    "grad_norms": "grad_norm",
    "grad_norm": "grad_norm",
    "gradient_norm": "grad_norm",
    "grad_2.0_norm": "grad_norm",
    "param_norm": "param_norm",
    "param_norms": "param_norm",
    "weight_norm": "param_norm",
    "weight_norms": "param_norm",
    "update_ratio": "update_ratio",
    "update_ratios": "update_ratio",
}
"""First part of a name whose rest names a layer → kind without its `_layer`."""

_WHOLE = frozenset({"total", "all", "global", "norm", "total_norm", "global_norm"})
_STATISTICS = frozenset({"mean", "std", "min", "max", "var", "histogram", "median", "abs_mean"})
_NEUTRAL = frozenset(
    {"rollout", "losses", "loss", "charts", "metrics", "metric", "stats", "optim", "optimizer"}
    | {"trainer", "time", "global", "model", "perf", "log", "logs", "scalars", "objective", "step"}
    | {"epoch", "batch", "ppo", "sac", "dqn", "td3", "a2c", "ddpg", "trpo", "env", "envs"}
    | {"episode", "agent", "info", "learner", "learners", "learner_stats", "default_policy"}
)
"""Parts before a name that say nothing of whose number it is."""

_ALIASES = {"policy_gradient": "policy", "pg": "policy"}
_GROUP = re.compile(r"(pg|group|param_group)_?\d+")
_LR = re.compile(r"lr-([A-Za-z0-9_./\-]+)")
_Q = re.compile(r"(q|qf|q_?\d|qf_?\d|critic_?\d?)_(mean|max|min|std)(?:_value)?")
_PER_LAYER = sorted(
    (name for name, kind in KINDS.items() if kind.per_layer and name not in _OWN_UNITS),
    key=len,
    reverse=True,
)
_LAYERED = re.compile(rf"(?:(?P<scope>.+?)[./])?(?P<kind>{'|'.join(_PER_LAYER)})[./](?P<layer>.+)")


class Place(NamedTuple):
    """Where the numbers of a column belong."""

    kind: str
    scope: str = ""
    layer: str = ""
    stage: str = "train"

    def __str__(self) -> str:
        said = f"{self.scope}.{self.kind}" if self.scope else self.kind
        said += f" [{self.layer}]" if self.layer else ""
        return said if self.stage == "train" else f"{said} ({self.stage})"


class MapError(ValueError):
    """What a person said with `--map` cannot be meant; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Given:
    """One `--map NAME=KIND[:scope][@stage]`; NAME may hold `*` and `?`."""

    name: str
    kind: str
    """`ignore` leaves the column out."""
    scope: str = ""
    stage: str = ""


def given(text: str) -> Given:
    """A `--map` argument. Raises `MapError`."""
    name, equals, what = text.rpartition("=")
    what, _, stage = what.partition("@")
    kind, _, scope = what.partition(":")
    if not equals or not name.strip() or not kind:
        raise MapError(f"expected NAME=KIND[:scope], for example 'train/loss=loss'; got {text!r}")
    if kind not in KINDS and kind != "ignore":
        raise MapError(
            f"expected one of the kinds {', '.join(KINDS)}, or ignore, for {name}; got {kind!r}"
        )
    if stage and stage not in STAGES.values():
        raise MapError(f"expected stage train, val or test for {name}; got {stage!r}")
    return Given(name.strip(), kind, to_name(scope) if scope else "", stage)


class Mapper:
    """Places of all columns of one run; two columns never become one series."""

    def __init__(self, told: Iterable[Given] = ()) -> None:
        self._told = tuple(told)
        self.used: set[str] = set()
        """Names of `told` that met a column."""
        self.places: dict[str, Place | None] = {}
        """Column → place; None: left out. In the order in which they were met."""
        self.notes: dict[str, str] = {}
        """Column → why it is not what its name says."""
        self.negated: set[str] = set()
        """Columns whose numbers stand for minus the kind of their place."""
        self.summed: dict[str, Place] = {}
        """Columns that are parts of a loss which nobody logged → place of their sum."""
        self._taken: dict[Place, str] = {}

    def declare(self, names: Iterable[str]) -> None:
        """Columns that are met together: what is told first, then the surest names."""
        fresh = [name for name in dict.fromkeys(names) if name not in self.places]
        guesses = {name: self._guess(name) for name in fresh}
        self.places.update(dict.fromkeys(fresh))
        for name in sorted(fresh, key=lambda one: guesses[one][0]):
            self._take(name, guesses[name][1])
        self._sum_up(fresh)

    def claim(self, place: Place, name: str) -> None:
        """A series that is known without a guess; it displaces a sum."""
        self._displace(place)
        self._taken.setdefault(place, name)

    def _sum_up(self, fresh: list[str]) -> None:
        """Parts of a loss (`train/box_loss`, `train/cls_loss`) where there is no whole one. Those
        of evaluations only where the same parts are summed in training."""
        summed: set[str] = set()
        for stage in dict.fromkeys(STAGES.values()):
            found = {n: part_of_loss(n) for n in fresh if self.places[n] == custom(n, stage)}
            parts = {n: part for n, (part, of) in found.items() if part and of == stage}
            known = any(one.kind == "loss" and one.stage == stage for one in self._taken)
            other = stage != "train" and set(parts.values()) != summed
            if known or other or len(parts) < 2 or any(map(self.is_told, parts)):
                continue
            summed = set(parts.values()) if stage == "train" else summed
            whole = Place("loss", stage=stage)
            self._taken[whole] = "the sum of " + ", ".join(parts)
            self.summed.update(dict.fromkeys(parts, whole))
            self.notes.update(dict.fromkeys(parts, f"summed into {whole}"))

    def _displace(self, place: Place) -> None:
        """No sum any more: the whole was logged after all."""
        for name in [name for name, whole in self.summed.items() if whole == place]:
            del self.summed[name], self.notes[name]
            self._taken.pop(place, None)

    def place(self, name: str) -> Place | None:
        """Place of a column; None if it is left out."""
        if name not in self.places:
            self.declare([name])
        return self.places[name]

    def is_told(self, name: str) -> bool:
        """True if a person said what this column is."""
        return self._said(name) is not None

    def leave_out(self, name: str, why: str) -> None:
        """The column holds no series (a step, a time, texts)."""
        self.places[name] = None
        self.notes[name] = why

    @property
    def unused(self) -> list[str]:
        """Names of `--map` that no column has."""
        return [one.name for one in self._told if one.name not in self.used]

    def _guess(self, name: str) -> tuple[int, list[Place]]:
        """How sure, and places in order of preference; none: left out."""
        one = self._said(name)
        if one is None:
            return infer(name)
        self.used.add(one.name)
        if one.kind == "ignore":
            return -1, []
        stage = one.stage or take_stage(parts_of(name), "train")[1]
        layer = to_name(name) if KINDS[one.kind].per_layer or one.kind == "custom" else ""
        return -1, [Place(one.kind, one.scope, layer, stage)]

    def _is_negated(self, name: str, place: Place) -> bool:
        return _NEGATED.get(name.strip().lower()) == place.kind and not self.is_told(name)

    def _said(self, name: str) -> Given | None:
        for one in self._told:
            if one.name == name or fnmatch.fnmatchcase(name, one.name):
                return one
        return None

    def _take(self, name: str, wanted: list[Place]) -> None:
        if not wanted:
            self.notes[name] = "left out, as told"
            return
        for place in wanted:
            self._displace(place)
            if place not in self._taken:
                self._taken[place] = name
                self.places[name] = place
                if self._is_negated(name, place):
                    self.negated.add(name)
                    self.notes[name] = "times -1"
                return
        self.notes[name] = f"{wanted[0]} is {self._taken[wanted[0]]} already"
        self.places[name] = custom(name, wanted[0].stage)


def custom(name: str, stage: str = "train") -> Place:
    """A name that is kept as it is."""
    return Place("custom", "", to_name(name), stage)


def infer(name: str) -> tuple[int, list[Place]]:
    """How sure, and what a name means, best first; `custom` if it says nothing known."""
    if place := _canonical(name):
        return EXACT, [place]
    if kind := _NEGATED.get(name.strip().lower()):
        return USUAL, [Place(kind)]
    parts, stage = take_stage(parts_of(name), "train")
    if not parts:
        return WEAK, [custom(name)]
    found = _rates(parts, stage) or _group(parts, stage)
    if found:
        return USUAL, found
    sure, place = _last(parts, stage)
    if place:
        return sure, [place]
    if said := read_words(name):
        kind, scope, stage = said
        return GUESSED, [Place(kind, scope, "", stage)]
    return WEAK, [custom(name, stage)]


def _canonical(name: str) -> Place | None:
    """Our own way of writing: `loss`, `q1.q_mean`, `grad_norm_layer.gru`."""
    plain = to_name(name)
    if found := _LAYERED.fullmatch(plain):
        stage = STAGES.get((found["scope"] or "").lower(), "")
        return Place(found["kind"], "" if stage else found["scope"] or "", found["layer"],
                     stage or "train")  # fmt: skip
    kind, scope, layer = series_key(plain)
    if kind in _OWN_UNITS or layer:
        return None
    stage = STAGES.get(scope.lower(), "")
    return Place(kind, "" if stage else scope, "", stage or "train")


def _rates(parts: list[str], stage: str) -> list[Place]:
    """`lr-Adam/pg1`, `lr/actor`: the first of several keeps the plain name."""
    whole = "/".join(parts)
    found = _LR.fullmatch(whole) or _LR.fullmatch("/".join(parts[1:]))
    if found:
        return [Place("lr", "", "", stage), Place("lr", to_name(found[1]), "", stage)]
    if len(parts) > 1 and _norm(parts[0]) in ("lr", "learning_rate"):
        own = Place("lr", to_name("/".join(parts[1:])), "", stage)
        # groups of one optimizer, as YOLO logs them, share what is said of the first
        return [Place("lr", "", "", stage), own] if _GROUP.fullmatch(_norm(parts[-1])) else [own]
    return []


def _group(parts: list[str], stage: str) -> list[Place]:
    """`gradients/encoder.weight`, `grad_norm/policy`, `grad_norm/total`."""
    kind = _GROUPS.get(_norm(parts[0]))
    if kind is None or len(parts) < 2 or _norm(parts[-1]) in _STATISTICS:
        return []
    rest = "/".join(parts[1:])
    if _norm(rest) in _WHOLE:
        return [Place(kind, "", "", stage)] if kind in KINDS else []
    if kind == "grad_norm" and OWNER.fullmatch(_norm(rest)):
        return [Place(kind, to_name(_norm(rest)), "", stage)]
    return [Place(f"{kind}_layer", "", to_name(rest), stage)]


def _last(parts: list[str], stage: str) -> tuple[int, Place | None]:
    """What the last part says, and whose it is by the parts before."""
    last, sure = _norm(parts[-1]), USUAL
    if last.endswith("_epoch"):
        last, sure = last.removesuffix("_epoch"), WEAK
    last = last.removesuffix("_step")
    before = [_norm(part) for part in parts[:-1]]
    if before and before[-1] == "loss":  # loss/policy, loss/total
        last = "loss" if last in _WHOLE else f"{last}_loss"
    owners = [part for part in before if part not in _NEUTRAL]
    kind, scope = _kind(last)
    if not kind or len(owners) > 1 or (owners and scope):
        return sure, None
    scope = scope or (owners[0] if owners else "")
    if scope and kind == "loss" and not OWNER.fullmatch(scope):
        return sure, None  # a part of the loss: it may rise while the whole falls
    sure = max(sure, GUESSED) if last in _MORE else sure
    return sure, Place(kind, to_name(scope) if scope else "", "", stage)


def _kind(last: str) -> tuple[str, str]:
    """Kind and scope of a plain name; empty if it is not known."""
    if last in _PLAIN:
        return _PLAIN[last], ""
    if found := known_kind(last):
        scope, _, kind = found.rpartition(".")
        return kind, scope
    if found := _Q.fullmatch(last):
        return f"q_{found[2]}", "" if found[1] == "q" else found[1]
    for head, tail in _cuts(last):
        for owner, base in ((head, tail), (tail, head)):
            owner = _ALIASES.get(owner, owner)
            kind = _PLAIN.get(base, "")
            if kind and OWNER.fullmatch(owner):
                return kind, owner
            if kind in ("grad_norm", "grad_norm_clipped", "lr") and _word(owner):
                return kind, owner
    return "", ""


def _cuts(name: str) -> Iterable[tuple[str, str]]:
    """`policy_grad_norm` as (`policy`, `grad_norm`), (`policy_grad`, `norm`)."""
    for at in (found.start() for found in re.finditer("_", name)):
        yield name[:at], name[at + 1 :]


def _word(owner: str) -> bool:
    """True for a plain word that may name a network, and no word of statistics."""
    taken = owner in _STATISTICS | _NEUTRAL | _WHOLE
    return not taken and re.fullmatch(r"[a-z][a-z0-9]*", owner) is not None


def _norm(part: str) -> str:
    return re.sub(r"[\s\-]+", "_", part.strip().lower())
