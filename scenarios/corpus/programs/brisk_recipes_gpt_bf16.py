"""A small GPT on made-up recipes, after nanoGPT: bfloat16 autocast on the CPU, three micro-batches
a step, AdamW with weight decay on matrices only, betas (0.9, 0.95), warm-up and cosine to a tenth,
gradients clipped at 1, tied embeddings, the held-out loss every fifty steps. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"learning_rate": 3e-3, "min_lr": 3e-4, "warmup_iters": 30, "max_iters": 320}
CONFIG |= {"batch_size": 5, "gradient_accumulation_steps": 3, "block_size": 40, "n_embd": 48}
CONFIG |= {"n_head": 4, "n_layer": 2, "weight_decay": 0.1, "grad_clip": 1.0}


def recipes(count: int, draw: random.Random) -> str:
    things = ["flour", "rice", "beans", "leeks", "plums", "butter", "milk", "eggs", "honey",
              "onions", "carrots", "nuts"]  # fmt: skip
    ways = [
        "boil {} in {}",
        "fry {} with {}",
        "stir {} into {}",
        "cover {} with {}",
        "mix {} and {}",
    ]
    lines = []
    for _ in range(count):
        used = draw.sample(things, 3)
        first = f"take {draw.randint(1, 9)}00 g of {used[0]}, some {used[1]} and {used[2]}. "
        lines.append(first + draw.choice(ways).format(*draw.sample(used, 2)) + ".\n")
    return "".join(lines)


class Block(nn.Module):
    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.c_fc, self.mlp_proj = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(b, t, 3, self.n_head, c // self.n_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, vocab_size: int, config: dict) -> None:
        super().__init__()
        n = config["n_embd"]
        self.wte, self.wpe = nn.Embedding(vocab_size, n), nn.Embedding(config["block_size"], n)
        self.h = nn.ModuleList([Block(n, config["n_head"]) for _ in range(config["n_layer"])])
        self.ln_f, self.lm_head = nn.LayerNorm(n), nn.Linear(n, vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "n_embd": draw.choice([32, 40, 48])}
    config["learning_rate"] *= draw.uniform(0.6, 1.2)
    text = recipes(2500, draw)
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in text])
    parts = {"train": data[: int(0.9 * len(data))], "val": data[int(0.9 * len(data)) :]}
    block = config["block_size"]

    def get_batch(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        part = parts[split]
        ix = torch.randint(len(part) - block - 1, (config["batch_size"],))
        rows = torch.stack([part[i : i + block + 1] for i in ix])
        return rows[:, :-1], rows[:, 1:]

    def get_lr(it: int) -> float:
        if it < config["warmup_iters"]:
            return config["learning_rate"] * (it + 1) / (config["warmup_iters"] + 1)
        ratio = (it - config["warmup_iters"]) / (config["max_iters"] - config["warmup_iters"])
        coeff = 0.5 * (1 + math.cos(math.pi * ratio))
        return config["min_lr"] + coeff * (config["learning_rate"] - config["min_lr"])

    model = GPT(len(chars), config)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    nodecay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": config["weight_decay"]},
              {"params": nodecay, "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=config["learning_rate"], betas=(0.9, 0.95))
    run = nanwatch.init(project="corpus", name="recipes-gpt", config=config)
    ctx = torch.autocast("cpu", dtype=torch.bfloat16)
    for it in range(config["max_iters"]):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(it)
        if it % 50 == 0:
            model.eval()
            with torch.no_grad(), ctx:
                held = torch.stack([model(*get_batch("val")) for _ in range(5)]).mean()
            run.log(loss=held, stage="val")
            model.train()
        for _ in range(config["gradient_accumulation_steps"]):
            with ctx:
                loss = model(*get_batch("train")) / config["gradient_accumulation_steps"]
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.finish()
