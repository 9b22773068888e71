"""A transformer encoder is pretrained by masked tokens, then frozen, and adapted to verdicts on
short texts by low-rank adapters (rank 4, alpha 8) and a new head, with the loop of the Hugging Face
course: AdamW at 2e-3 for the adapters, a linear schedule with warm-up, evaluation after each epoch.
Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"pretrain_lr": 2e-3, "pretrain_steps": 350, "learning_rate": 3e-3, "r": 4, "alpha": 8}
CONFIG |= {"num_train_epochs": 8, "batch_size": 16, "d_model": 40, "vocab": 40, "length": 16}


class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, r: int, alpha: int) -> None:
        super().__init__()
        self.base, self.scaling = base, alpha / r
        self.lora_A = nn.Parameter(torch.randn(r, base.in_features) / base.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T * self.scaling


class Layer(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(d, d) for _ in range(4))
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = (
            f(x).view(b, t, 4, -1).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        x = self.ln1(x + self.dense(y))
        return self.ln2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, vocab: int, length: int, d: int) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(vocab + 1, d), nn.Embedding(length, d)
        self.layers = nn.ModuleList([Layer(d) for _ in range(2)])
        self.lm_head = nn.Linear(d, vocab)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.word(ids) + self.position.weight
        for layer in self.layers:
            x = layer(x)
        return x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {
        "seed": seed,
        "learning_rate": CONFIG["learning_rate"] * draw.uniform(0.6, 1.3),
    }
    vocab, length, d = config["vocab"], config["length"], config["d_model"]
    follow = (2 * torch.randn(vocab, vocab)).softmax(1)
    worth = torch.randn(vocab)

    def texts(count: int) -> torch.Tensor:
        words = [torch.randint(vocab, (count,))]
        for _ in range(length - 1):
            words.append(torch.multinomial(follow[words[-1]], 1).squeeze(1))
        return torch.stack(words, 1)

    def verdict(ids: torch.Tensor) -> torch.Tensor:
        score = worth[ids].mean(1) + 0.1 * torch.randn(len(ids))
        return (score > -0.15).long() + (score > 0.15).long()

    run = nanwatch.init(project="corpus", name="verdicts-lora", config=config)
    encoder = Encoder(vocab, length, d)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=config["pretrain_lr"])
    run.mark("task", "pretraining")
    for _ in range(config["pretrain_steps"]):
        ids = texts(24)
        masked = torch.rand(ids.shape) < 0.2
        logits = encoder.lm_head(encoder(ids.masked_fill(masked, vocab)))
        loss = F.cross_entropy(logits[masked], ids[masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    run.mark("task", "adapters")
    encoder.requires_grad_(False)
    for layer in encoder.layers:
        layer.query = LoRALinear(layer.query, config["r"], config["alpha"])
        layer.value = LoRALinear(layer.value, config["r"], config["alpha"])
    classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(d, 3))
    trained = [p for p in encoder.parameters() if p.requires_grad] + [*classifier.parameters()]
    train_ids, eval_ids = texts(800), texts(300)
    train_y, eval_y = verdict(train_ids), verdict(eval_ids)
    optimizer = torch.optim.AdamW(trained, lr=config["learning_rate"], weight_decay=0.01)
    num_training_steps = config["num_train_epochs"] * 800 // config["batch_size"]
    warmup = num_training_steps // 10
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: s / warmup if s < warmup
        else max(0.0, (num_training_steps - s) / (num_training_steps - warmup)),
    )  # fmt: skip
    for _ in range(config["num_train_epochs"]):
        encoder.train()
        classifier.train()
        for rows in torch.randperm(800).split(config["batch_size"]):
            loss = F.cross_entropy(classifier(encoder(train_ids[rows]).mean(1)), train_y[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        encoder.eval()
        classifier.eval()
        with torch.no_grad():
            logits = classifier(encoder(eval_ids).mean(1))
        right = (logits.argmax(1) == eval_y).float().mean()
        run.log(loss=F.cross_entropy(logits, eval_y), accuracy=right, stage="val")
    run.finish()
