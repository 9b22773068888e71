"""Sampled forward passes: dead and saturated units and attention logits, exact and unnoticed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nanwatch.probes import activations, attention
from sdk.watched import Watched

Make = Callable[..., Watched]

DEAD, SATURATED, LOGIT = "dead_fraction_layer", "saturated_fraction_layer", attention.KIND


def every_attempt(seen: Watched) -> None:
    """Without a limit of cost every forward pass is sampled."""
    seen.run.observer.overhead.cap = 1e9


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanwatch.probes import sampling

    monkeypatch.setattr(sampling, "EVERY_AT_FIRST", 1)
    monkeypatch.setattr(sampling, "FIRST_STEP", 2)


def train(model: Any, data: Callable[[], torch.Tensor], steps: int = 6, **kwargs: Any) -> Any:
    """Last input."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    x = data()
    for _ in range(steps):
        x = data()
        optimizer.zero_grad()
        out = model(x, **kwargs)
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        optimizer.step()
    return x


def flat() -> torch.Tensor:
    return torch.randn(16, 4)


# --- activations ---------------------------------------------------------------------------------


class Many(nn.Module):
    """Modules, functions, methods and in-place variants of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.d, self.e = nn.Linear(8, 8), nn.Linear(8, 2)
        self.inplace = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.a.bias[:2] = -1e6  # two of eight never fire
            self.b.bias[:4] = -1e6
            self.c.bias[:1] = 1e6
            self.d.bias[:6] = -1e6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inplace(self.a(x))
        x = F.relu(self.b(x))
        x = self.c(x).tanh()
        x = F.gelu(self.d(x))
        return torch.sigmoid(self.e(x))


def test_shares_are_exact_and_named_after_layers(watched: Make) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    model = Many()
    x = train(model, flat)
    seen.read()
    with torch.no_grad():
        a = F.relu(model.a(x))
        b = F.relu(model.b(a))
        c = torch.tanh(model.c(b))
        d = F.gelu(model.d(c))
        e = torch.sigmoid(model.e(d))

    def dead(y: torch.Tensor, tiny: float = 0.0) -> float:
        return (y.abs().amax(0) <= tiny).float().mean().item()

    assert seen.values(DEAD, layer="a")[-1] == dead(a) >= 0.25
    assert seen.values(DEAD, layer="b")[-1] == dead(b) >= 0.5
    assert seen.values(DEAD, layer="d")[-1] == dead(d, 1e-3) >= 0.75
    assert seen.values(SATURATED, layer="c")[-1] == (c.abs() > 0.99).float().mean().item() > 0.1
    expected = ((e - 0.5).abs() > 0.495).float().mean().item()
    assert seen.values(SATURATED, layer="e")[-1] == expected
    assert [step for step, _ in seen.series(DEAD, layer="a")] == [3, 4, 5, 6]
    assert seen.run.observer.probes.coverage()["activations"] == "every attempt"


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, 2)
        with torch.no_grad():
            self.norm.bias[1] = -1e6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.conv(x))).flatten(1))


def test_channels_are_the_units_after_a_convolution(watched: Make) -> None:
    seen = watched()
    every_attempt(seen)
    train(Convolutions(), lambda: torch.randn(3, 1, 8, 8))
    assert seen.read().values(DEAD, layer="norm")[-1] == 0.25


def test_a_gelu_written_out_is_not_a_saturated_tanh(watched: Make) -> None:
    class NewGELU(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))

    seen = watched()
    every_attempt(seen)
    train(nn.Sequential(nn.Linear(4, 8), NewGELU(), nn.Linear(8, 1), nn.Tanh()), flat)
    seen.read()
    assert not seen.series(SATURATED, layer="0") and seen.series(SATURATED, layer="2")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_alive(value: float) -> None:
    output = torch.zeros(4, 2)
    output[1, 0] = value
    assert activations.measured(DEAD, 0.0, output, False) == 0.5


def test_only_the_first_rows_of_a_large_output_are_looked_at() -> None:
    output = torch.zeros(activations.ELEMENTS_MOST // 64, 128)
    output[-1] = 1
    assert activations.measured(DEAD, 0.0, output, False) == 1.0
    output[0, :64] = 1
    assert activations.measured(DEAD, 0.0, output, False) == 0.5


# --- attention -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention in four ways of writing it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, 8) for _ in range(3))
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "fused":
            parts = self.qkv(x).chunk(3, -1)
        else:
            parts = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (t.view(*t.shape[:2], 2, 4).transpose(1, 2) for t in parts)
        if self.way == "softmax":
            scores = q @ k.transpose(-2, -1) / 2 + causal(x.shape[1]) * -1e9
            return F.softmax(scores, dim=-1) @ v
        if self.way == "masked":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=~causal(x.shape[1]).bool())
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def causal(n: int) -> torch.Tensor:
    return torch.triu(torch.ones(n, n), 1)


class Layers(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.attn = nn.Linear(4, 8), Block(way)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attn(self.first(x))

    def largest(self, x: torch.Tensor) -> float:
        with torch.no_grad():
            x = self.first(x)
            parts = (
                self.attn.qkv(x).chunk(3, -1)
                if self.attn.way == "fused"
                else (self.attn.q_proj(x), self.attn.k_proj(x))
            )
            q, k = (t.view(*t.shape[:2], 2, 4).transpose(1, 2) for t in parts[:2])
            logits = (q @ k.transpose(-2, -1) / 2).abs()
            return (logits * (1 - causal(x.shape[1]))).max().item()


@pytest.mark.parametrize("way", ["product", "fused", "masked", "softmax"])
def test_the_largest_attention_logit(watched: Make, way: str) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    model = Layers(way)
    x = train(model, lambda: torch.randn(2, 6, 4))
    assert seen.read().values(LOGIT, layer="attn")[-1] == pytest.approx(model.largest(x), rel=1e-5)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_modules_of_torch(watched: Make, need_weights: bool, separate: bool) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = 6 if separate else 8
            self.attn = nn.MultiheadAttention(8, 2, batch_first=True, kdim=width, vdim=width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            memory = x[..., :6] if separate else x
            mask = causal(x.shape[1]).bool()
            kwargs: dict[str, Any] = {"attn_mask": mask, "need_weights": need_weights}
            return self.attn(x, memory, memory, **kwargs)[0]

    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    model = Own()
    x = train(model, lambda: torch.randn(2, 5, 8))
    attn = model.attn
    with torch.no_grad():
        if separate:
            weights = (attn.q_proj_weight, attn.k_proj_weight)
        else:
            weights = (attn.in_proj_weight[:8], attn.in_proj_weight[8:16])
        q = F.linear(x, weights[0], attn.in_proj_bias[:8]).view(2, 5, 2, 4).transpose(1, 2)
        k = F.linear(x[..., :6] if separate else x, weights[1], attn.in_proj_bias[8:16])
        k = k.view(2, 5, 2, 4).transpose(1, 2)
        expected = ((q @ k.transpose(-2, -1) / 2).abs() * (1 - causal(5))).max().item()
    assert seen.read().values(LOGIT, layer="attn")[-1] == pytest.approx(expected, rel=1e-5)


def test_grouped_queries_long_sequences_and_padding() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8)
    found: Any = attention.of_product(q, k, k, enable_gqa=True)
    wide = k.repeat_interleave(2, dim=1)
    assert found == pytest.approx((q @ wide.mT / math.sqrt(8)).abs().max().item(), rel=1e-5)
    q, k = torch.randn(1, 1, 1000, 8), torch.randn(1, 1, 1000, 8)
    exact = (q @ k.mT / math.sqrt(8)).abs().max().item()
    found = attention.of_product(q, k, k)
    assert 0.5 * exact < found <= exact * 1.0001
    bad = torch.full((1, 1, 3, 8), math.nan)
    found = attention.of_product(bad, bad, bad)
    assert math.isnan(found)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_attention_of_transformers(watched: Make, name: str, implementation: str) -> None:
    from sdk.test_probe_critics import language_model

    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    model, inputs = language_model(name)
    setter: Any = model
    if name != "t5":
        setter.set_attn_implementation(implementation)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seen.read()
    layers = sorted(layer for kind, _, layer in seen.points if kind == LOGIT)
    expected = {
        "gpt2": ["transformer.h.0.attn", "transformer.h.1.attn"],
        "bert": [f"bert.encoder.layer.{n}.attention.self" for n in range(2)],
        "t5": sorted(
            [
                f"decoder.block.{n}.layer.{m}.{('Self', 'EncDec')[m]}Attention"
                for n in (0, 1)
                for m in (0, 1)
            ]
            + [f"encoder.block.{n}.layer.0.SelfAttention" for n in (0, 1)]
        ),
    }[name]
    assert layers == expected


# --- unnoticed -----------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Dropout, recurrent layers, in-place activations, normalisation, attention, checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Dropout(0.2))
        self.end = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.norm(self.conv(x))).transpose(1, 2)
        x, _ = self.rnn(x)
        x = self.block(x)
        y: Any = checkpoint(self.head, x, use_reentrant=False)
        z: Any = checkpoint(self.head, x, use_reentrant=True)
        return self.end(y + z)


def mixed_run() -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = Mixed()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(5, 4, 7)).square().mean().backward()
        optimizer.step()
    return [*(p.detach() for p in model.parameters()), torch.rand(3)]


def test_weights_and_random_numbers_are_the_same_to_the_bit(watched: Make) -> None:
    expected = mixed_run()
    seen = watched()
    every_attempt(seen)
    found = mixed_run()
    seen.read()
    assert seen.series(DEAD, layer="norm") and seen.series(LOGIT, layer="block.self_attn")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def selective_run() -> list[torch.Tensor]:
    """Selective checkpointing replays operations by their order: ours must not be among them."""
    from functools import partial

    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    def policy(_: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE

    torch.manual_seed(0)
    model = Layers("product")
    contexts = partial(create_selective_checkpoint_contexts, policy)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.end = model, nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: Any = checkpoint(self.inner, x, use_reentrant=False, context_fn=contexts)
            return self.end(F.relu(y))

    outer = Outer()
    optimizer = torch.optim.SGD(outer.parameters(), 0.1)
    for _ in range(6):
        optimizer.zero_grad()
        outer(torch.randn(2, 6, 4)).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in outer.parameters()]


def test_selective_checkpointing_is_left_alone(watched: Make) -> None:
    expected = selective_run()
    seen = watched()
    every_attempt(seen)
    found = selective_run()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not seen.read().series(LOGIT, layer="inner.attn")


def test_an_exception_passes_and_leaves_no_mode_behind(watched: Make) -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.fail = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x).relu()
            if self.fail:
                raise KeyError("the user's own")
            return x

    seen = watched()
    every_attempt(seen)
    model = Fails()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(4):
        model(flat()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.fail = True
    with pytest.raises(KeyError, match="the user's own"):
        model(flat())
    native: Any = torch._C
    assert native._len_torch_function_stack() == 0


def test_nothing_is_sampled_between_samples(watched: Make, monkeypatch: Any) -> None:
    from nanwatch.probes import sampling

    monkeypatch.setattr(sampling, "EVERY_AT_FIRST", 16)
    seen = watched()
    inside: list[int] = []
    native: Any = torch._C

    class Counts(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            inside.append(native._len_torch_function_stack())
            return super().forward(input).relu()

    train(Counts(4, 2), flat, steps=40)
    assert 1 <= sum(inside) <= 3
    assert seen.run.observer.enabled


@pytest.fixture
def compiled() -> Iterator[None]:
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiled")
def test_where_anything_is_compiled_nothing_is_sampled(watched: Make) -> None:
    from torch._dynamo.utils import counters

    def run() -> int:
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        inner = Many()
        helper = torch.compile(lambda x: x * 2, backend="eager")

        class Outer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return helper(self.inner(x))

        train(Outer(), flat, steps=8)
        train(torch.compile(copy.deepcopy(inner), backend="eager"), flat, steps=8)
        return counters["stats"]["unique_graphs"]

    expected = run()
    seen = watched()
    every_attempt(seen)
    assert run() == expected
    seen.read()
    assert not [key for key in seen.points if key[0] in (DEAD, SATURATED, LOGIT)]
    assert seen.run.observer.probes.coverage()["activations"] == "off: torch.compile is in use"
