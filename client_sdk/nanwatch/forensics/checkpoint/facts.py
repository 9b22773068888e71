"""What is known about a checkpoint after reading it: numbers only, no opinion. Pure data.

Travels from the child to the parent as msgpack. Counts are of elements unless said otherwise;
norms are Euclidean, in double precision, over the finite elements.
"""

from __future__ import annotations

from typing import Any

import msgspec

HISTOGRAM_LOW, HISTOGRAM_HIGH, HISTOGRAM_BINS = -12, 8, 40
"""Decades that a histogram of log10|w| spans, and its bins; smaller and larger go to the ends."""


class TensorFacts(msgspec.Struct):
    """One tensor of weights, buffers or stored data."""

    name: str
    section: str
    """Path of the dict that holds it, empty for the file's own."""
    dtype: str
    shape: list[int]
    role: str = "weight"
    """`weight`, `buffer` (running statistics), `data` (a replay buffer), `integer`, `other`."""
    elements: int = 0
    """Elements looked at: those that are stored."""
    nan: int = 0
    positive_infinite: int = 0
    negative_infinite: int = 0
    low: float = 0.0
    high: float = 0.0
    """Least and greatest finite element."""
    norm: float = 0.0
    zeros: int = 0
    over_half: int = 0
    """Elements beyond the range of fp16."""
    rows: int = 0
    """Slices along the first dimension; 0 for fewer than two dimensions."""
    zero_rows: int = 0
    """Rows of zeros only; if a bias of the same module is there, only those with a zero bias."""
    constant_rows: int = 0
    """Rows of one value that is not zero."""
    bad_rows: list[int] = []
    """The first rows with elements that are not finite."""
    bad_rows_count: int = 0
    histogram: list[int] = []
    """Of log10|w|, of a sample of the elements that are not zero."""
    skipped: str = ""
    """Why it was not looked into."""

    @property
    def bad(self) -> int:
        """Elements that are not finite."""
        return self.nan + self.positive_infinite + self.negative_infinite

    @property
    def is_mask(self) -> bool:
        """Minus infinity beside zeros: an attention mask, no trouble."""
        only = self.negative_infinite > 0 and not self.nan and not self.positive_infinite
        return only and self.low == 0.0 and self.high == 0.0

    @property
    def rms(self) -> float:
        """Root mean square of the finite elements."""
        count = self.elements - self.bad
        return self.norm / count**0.5 if count > 0 else 0.0

    @property
    def largest(self) -> float:
        """Largest absolute finite element."""
        return max(abs(self.low), abs(self.high))

    @property
    def title(self) -> str:
        """Section and name."""
        return f"{self.section}: {self.name}" if self.section else self.name


class StateFacts(msgspec.Struct):
    """What an optimizer keeps for one parameter."""

    name: str
    shape: list[int]
    step: float = 0.0
    bad: dict[str, int] = {}
    """Key of the state, such as `exp_avg_sq` → elements that are not finite."""
    v_negative: int = 0
    v_max: float = 0.0
    v_zero: bool = False
    """The second moment is zero throughout: no gradient ever came."""
    m_norm: float = 0.0
    v_root_norm: float = 0.0
    """Norm of the square root of the second moment, both moments corrected for their bias."""
    update_norm: float = 0.0
    """Norm of the last update, as far as the moments tell: lr·m/(√v + eps)."""
    weight_norm: float = -1.0
    """Norm of the parameter; -1 if it is not known which one it is."""


class GroupFacts(msgspec.Struct):
    """One parameter group."""

    parameters: int = 0
    settings: dict[str, float] = {}
    """`lr`, `eps`, `weight_decay`, `momentum`, `beta1`, `beta2`, …"""
    lr_factor: float = 1.0
    """Factor that a command of nanwatch held on the learning rate."""


class OptimizerFacts(msgspec.Struct):
    """One optimizer."""

    name: str
    kind: str = "unknown"
    """Family, told from the keys of its state: `Adam`, `SGD`, `RMSprop`, …"""
    groups: list[GroupFacts] = []
    states: list[StateFacts] = []
    steps_low: float = 0.0
    steps_high: float = 0.0
    named: bool = False
    """The names of its parameters are known."""


class RecurrentFacts(msgspec.Struct):
    """One square block of a recurrent weight."""

    name: str
    block: int
    """0-based; of three for a GRU (reset, update, new), of four for an LSTM."""
    size: int
    spectral_norm: float
    radius: float
    """Largest absolute eigenvalue; -1 where the block is too large to ask for it."""


class CopyFacts(msgspec.Struct):
    """An EMA, teacher or target copy of weights that are in the file too."""

    name: str
    of: str
    tensors: int
    distance: float
    """Norm of the difference over the norm of the weights; NaN if one is not finite."""
    bad: int
    of_bad: int
    """Tensors with elements that are not finite, in the copy and in the weights."""


class ChangeFacts(msgspec.Struct):
    """One tensor compared with the same one of an earlier checkpoint."""

    name: str
    elements: int
    before: float
    """Norm in the earlier checkpoint."""
    after: float
    change: float
    """Norm of the difference."""
    same: bool
    """Bit for bit."""
    bad_before: int
    bad_after: int

    @property
    def relative(self) -> float:
        """Change over what was there; infinite from zero."""
        if self.change == 0.0:
            return 0.0
        return self.change / self.before if self.before > 0 else float("inf")


class Comparison(msgspec.Struct):
    """Two checkpoints of one training."""

    earlier: str
    counters_before: dict[str, float] = {}
    steps_before: float = 0.0
    """Steps of its optimizers."""
    changes: list[ChangeFacts] = []
    appeared: list[str] = []
    vanished: list[str] = []
    reshaped: list[str] = []


class CheckpointFacts(msgspec.Struct):
    """Everything that was read."""

    path: str
    format: str
    bytes: int = 0
    layout: str = ""
    """Who wrote it, as far as its keys tell: `nanwatch`, `Lightning`, `transformers`, …"""
    tensors: list[TensorFacts] = []
    optimizers: list[OptimizerFacts] = []
    recurrent: list[RecurrentFacts] = []
    copies: list[CopyFacts] = []
    scalers: dict[str, dict[str, float]] = {}
    counters: dict[str, float] = {}
    """`step`, `global_step`, `epoch`, … as the file has them."""
    nan_values: list[str] = []
    """Plain numbers that are NaN, such as a stored loss."""
    config: dict[str, str] = {}
    comparison: Comparison | None = None
    notes: list[str] = []
    limits: list[str] = []
    """What the child was kept from: `memory`, `network`, …"""


class GradientFacts(msgspec.Struct):
    """Gradient of one parameter after one backward pass."""

    name: str
    elements: int
    norm: float
    """Of the finite elements."""
    bad: int
    missing: bool = False
    """No gradient came."""
    weight_norm: float = 0.0


class TimeFacts(msgspec.Struct):
    """A loop through time: one layer that was called again and again, or a recurrent module."""

    name: str
    steps: int
    growth: float = 1.0
    """Factor by which the gradient grows in each step back through time; 1 if not known."""


class BackwardFacts(msgspec.Struct):
    """One forward and one backward pass of `--script`."""

    factory: str
    losses: list[float] = []
    """Of each repetition; the other numbers are of the first."""
    totals: list[float] = []
    """Total gradient norm of each repetition."""
    gradients: list[GradientFacts] = []
    times: list[TimeFacts] = []
    chain: int = 0
    """Operations one after the other from the loss to the weights, the longest way."""
    recurrent: bool = False
    verdict: str = ""
    """Of the tracing: `layer`, `all_at_once`, `loss`, `not_found`; empty if all was finite."""
    text: str = ""
    first_forward: str = ""
    first_backward: str = ""
    origin: str = ""
    """`data` or `parameters` where tracing could tell."""
    half_precision: bool = False
    notes: list[str] = []
    seconds: float = 0.0


class Job(msgspec.Struct):
    """What the parent asks of a child."""

    path: str
    against: str = ""
    allow: list[str] = []
    script: str = ""
    """`module:factory`; empty for the limited child."""
    arguments: dict[str, Any] = {}
    repeat: int = 1
    directory: str = ""
    """Where the user stands: imported from for `script`."""


class Progress(msgspec.Struct, tag=True):
    """How far the child is."""

    text: str
    done: int
    total: int


class Refusal(msgspec.Struct, tag=True):
    """It cannot be looked at."""

    message: str


class Read(msgspec.Struct, tag=True):
    """All that was read."""

    facts: CheckpointFacts


class Ran(msgspec.Struct, tag=True):
    """What `--script` did."""

    facts: BackwardFacts


Message = Progress | Refusal | Read | Ran
