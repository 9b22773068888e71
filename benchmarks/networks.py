"""Networks and loops that `gradient_cost` measures: recurrent, many small tensors, GPT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """One residual layer with its own normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Any) -> Any:
        """x + f(x)."""
        return x + torch.tanh(self.linear(self.norm(x)))


class Recurrent(nn.Module):
    """36 residual layers, a GRU and two heads: 154 tensors, about 2 M parameters."""

    def __init__(self, width: int = 216) -> None:
        super().__init__()
        self.inp = nn.Linear(16, width)
        self.body = nn.Sequential(*[Residual(width) for _ in range(36)])
        self.gru = nn.GRU(width, width, batch_first=True)
        self.policy, self.value = nn.Linear(width, 8), nn.Linear(width, 1)

    def forward(self, x: Any) -> Any:
        """A loss of both heads."""
        hidden, _ = self.gru(self.body(self.inp(x)))
        return self.policy(hidden).square().mean() + self.value(hidden).square().mean()


class Many(nn.Module):
    """2,500 small layers: 5,000 tensors, where Python work per tensor would show."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2500)])

    def forward(self, x: Any) -> Any:
        """Mean square of the last layer."""
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x.square().mean()


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        """x[b, t, width] → the same shape."""
        b, t, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(width, 2)
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in (q, k, v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """GPT-2 with tied embeddings: width 768, 12 layers and 50,257 tokens make 124 M parameters."""

    def __init__(self, width: int, layers: int, heads: int, tokens: int, context: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(tokens, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Any) -> Any:
        """Cross entropy of the next token."""
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.token.weight)
        return functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]).float(), tokens[:, 1:].reshape(-1)
        )


@dataclass(slots=True)
class Case:
    """One training loop: network, input, whether it clips, steps a block and blocks a pair."""

    title: str
    make: Callable[[], nn.Module]
    data: Callable[[str], Any]
    clips: bool
    steps: int
    """Steps of one timed block."""
    bf16: bool = False


def gpt(width: int, layers: int, heads: int, tokens: int, context: int) -> Callable[[], Gpt]:
    """Maker of a GPT."""
    return lambda: Gpt(width, layers, heads, tokens, context)


CPU_CASES = {
    "gru": Case(
        "154-tensor GRU, clips", Recurrent, lambda device: torch.randn(16, 16, 16), True, 2
    ),
    "many": Case("5,000 tensors, clips", Many, lambda device: torch.randn(4, 8), True, 1),
    "gpt": Case(
        "29 M GPT, does not clip",
        gpt(384, 12, 6, 20_000, 128),
        lambda device: torch.randint(0, 20_000, (1, 128)),
        False,
        1,
    ),
}

CUDA_CASES = {
    f"gpt2{'-clip' if clips else ''}": Case(
        f"124 M GPT-2 bf16, {'clips' if clips else 'does not clip'}",
        gpt(768, 12, 12, 50_257, 1024),
        lambda device: torch.randint(0, 50_257, (8, 1024), device=device),
        clips,
        5,
        bf16=True,
    )
    for clips in (True, False)
}
