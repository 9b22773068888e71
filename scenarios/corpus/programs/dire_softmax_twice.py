"""Which of fifty departments is a message for? The net ends in `nn.Softmax`, as its author learned
it, and `nn.CrossEntropyLoss` has one of its own: differences of the "logits" are at most one,
gradients tiny, and the loss stands at the logarithm of fifty. Cure: leave out the softmax.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "batch_size": 64, "epochs": 32, "classes": 50, "words": 600}


class Router(nn.Module):
    def __init__(self, words: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(words, hidden, mode="mean")
        self.fc1 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(hidden, classes)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc1(self.embed(tokens)))
        return self.softmax(self.fc2(self.dropout(x)))


def messages(count: int, topics: torch.Tensor, words: int) -> tuple[torch.Tensor, torch.Tensor]:
    department = torch.randint(len(topics), (count,))
    own = topics[department].gather(1, torch.randint(topics.shape[1], (count, 20)))
    common = torch.rand(count, 20) < 0.5
    return torch.where(common, torch.randint(words, own.shape), own), department


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    topics = torch.randint(config["words"], (config["classes"], draw.randint(20, 40)))
    tokens, department = messages(5000, topics, config["words"])
    held = messages(800, topics, config["words"])
    model = Router(config["words"], config["classes"], draw.choice([48, 64]))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="departments", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(tokens)).split(config["batch_size"]):
            optimizer.zero_grad()
            loss = criterion(model(tokens[rows]), department[rows])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            answer = model(held[0])
            right = (answer.argmax(1) == held[1]).float().mean()
            run.log(loss=criterion(answer, held[1]), accuracy=right, stage="val")
    run.finish()
